"""A trained generator with a picture and a card in `results/generators`, small enough for git."""

import json
import re

import torchvision

from rag_lib import pretrained
from rag_lib.config import as_dict
from rag_lib.errors import UserError
from rag_lib.export import LABELS, fidelity
from rag_lib.generate import generate, load_generator, to_pil
from rag_lib.pretrained import sha256
from rag_lib.runs import finished
from rag_lib.storage import load_weights, save_weights, write_whole

CARD = """# The generator `{name}`

Draws images of {size} x {size} pixels, {colours}, of {k} classes. It learned for {steps:,} iterations from training
images of `{dataset}`, and from no others.

![Ten images of each class]({name}.png)

*The first ten images of each class; nothing is selected.*

```python
from rag_lib.generate import load_generator, sample

images = sample(load_generator("{name}"), labels=[0, 1, 2], seed=0)
```

| | |
|---|---|
| file | `{name}.safetensors`, {megabytes:.2f} MB, SHA-256 `{digest}` |
| classes | {classes} |
| labels | {labels} |
| GAN-test accuracy | {fidelity} |
| parameters | {parameters:,}, in half precision, which moves no pixel of 1,000 images by more than {rounding} of 255 |
| trained by | run `{run}`: {seconds:,.0f} s on {device}, threads {threads}, torch {torch}, commit {commit} |

It carries the mistakes of its training, and knows nothing beyond those classes. Whether its images make a classifier
better must be measured, and is in the [study](../../README.md).

Its settings:

```json
{details}
```
"""


def publish(id: str, name: str) -> str:
    """Writes the generator of the finished run `id` as `<name>.safetensors`, `.png` and `.md`; returns the card.

    From then on `pretrained.py` knows it by this name. Raises `UserError`.
    """
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise UserError(f"name = {name!r} must be of lower-case letters, digits and _, such as mnist")
    generator, run = load_generator(id), finished(id)
    if run is None:
        raise UserError(f"{id} is no finished run; `python -m rag_lib runs` lists them")
    weights, card = load_weights(run.folder / "generator.safetensors")
    half = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in weights.items()}
    pretrained.FOLDER.mkdir(parents=True, exist_ok=True)
    file, picture, text = (pretrained.FOLDER / f"{name}.{kind}" for kind in ("safetensors", "png", "md"))
    save_weights(file, half, card)
    full, stored = (generate(g, 1_000, seed=0) for g in (generator, load_generator(file)))
    shown = torchvision.utils.make_grid(stored.first_of_each_class(10).x, nrow=10, pad_value=255)
    to_pil(shown[: stored.x.shape[1]]).save(picture)  # make_grid makes three channels of one
    config = generator.config
    content = CARD.format(
        name=name,
        size=config.data.size,
        colours="grey" if config.data.channels == 1 else "in colour",
        k=len(generator.classes),
        steps=config.steps,
        dataset=as_dict(config.data)["dataset"],
        megabytes=file.stat().st_size / 1e6,
        digest=sha256(file),
        classes=", ".join(generator.classes),
        labels=LABELS[config.labels],
        fidelity=fidelity(config, run.folder / "generator.safetensors"),
        parameters=run.metrics["parameters_g"],
        rounding=int((full.x.int() - stored.x.int()).abs().max()),
        run=run.id,
        details=json.dumps(as_dict(config), indent=1, ensure_ascii=False),
        **run.environment(),
    )
    write_whole(text, content.encode())
    return content
