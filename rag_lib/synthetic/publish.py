"""A trained generator with a picture and a card in `results/generators`, small enough for git."""

import copy
import re
from io import BytesIO
from pathlib import Path

import torchvision
from torchvision.transforms.functional import to_pil_image

from rag_lib.base import UserError, pretrained_file
from rag_lib.runtime.files import room_for, save_weights, write_whole
from rag_lib.runtime.store import finished
from rag_lib.settings.config import as_dict
from rag_lib.synthetic.export import described, fidelity
from rag_lib.synthetic.generate import generate, load_generator

MAX_BYTES = 2_000_000  # git keeps every version for ever

CARD = """# The generator `{name}`

Draws images of {size} x {size} pixels, {colours}, of {k} classes. It learned for {steps:,} iterations from training
images of `{dataset}`, and from no others.

![Up to ten images of each class]({name}.png)

*Up to ten images of each class, the first ones; nothing is selected.*

```python
from rag_lib.synthetic import load_generator, sample

images = sample(load_generator("{name}"), labels=[0, 1, 2], seed=0)
```

| | |
|---|---|
| file | `{name}.safetensors`, {megabytes:.2f} MB, SHA-256 `{digest}` |
| classes | {classes} |
| labels | {labels} |
| GAN-test accuracy | {fidelity} |
| parameters | {parameters_g:,}, in half precision: no pixel of 1,000 images moves by more than {rounding} of 255 |
| trained by | run `{run}`: {seconds:,.0f} s on {device}, threads {threads}, torch {torch}, commit {commit} |

It carries the mistakes of its training, and knows nothing beyond those classes. Whether its images make a classifier
better must be measured, and is in the [study](../../README.md).

Its settings:

```json
{details}
```
"""


def publish(trained: str, name: str) -> Path:
    """Write a finished run's generator as `<name>.safetensors`, a picture and its card, `<name>.md`; return the card.

    From then on `load_generator` knows it by this name. Raises `UserError`, before anything is written.
    """
    generator, run = load_generator(trained), finished(trained)
    if run is None:
        raise UserError(f"{trained} is no finished training of a GAN; `python -m rag_lib runs` lists them")
    file = pretrained_file(name)
    picture, text = (file.with_suffix(suffix) for suffix in (".png", ".md"))
    if not re.fullmatch(r"[a-z0-9_]+", name) or file.exists():
        raise UserError(f"name = {name!r} must be new, and of lower-case letters, digits and _")
    half = {key: t.half() if t.is_floating_point() else t for key, t in generator.state_dict().items()}
    size = sum(tensor.nbytes for tensor in half.values())
    in_half = copy.deepcopy(generator)
    in_half.load_state_dict(half)
    full, stored = (generate(g, 1_000, seed=0) for g in (generator, in_half))
    rounding = int((full.x.int() - stored.x.int()).abs().max())
    if size > MAX_BYTES or rounding > 1:
        raise UserError(
            f"{trained} has {size / 1e6:.2f} MB in half precision, which moves its pixels by up to {rounding} of 255; "
            f"it must be at most {MAX_BYTES / 1e6:.2f} MB and 1 (a smaller gan.width makes a smaller one)"
        )
    config = generator.config
    measured = fidelity(config, run.folder / "generator.safetensors")
    facts = {"run": run.id, "parameters_g": run.metrics["parameters_g"], "fidelity": measured}
    card = {"config": as_dict(config), "classes": generator.classes, "published": facts}
    with room_for(f"the generator {file}"):
        file.parent.mkdir(parents=True, exist_ok=True)
        save_weights(file, half, card)
        shown = stored.first_of_each_class(10)
        grid = torchvision.utils.make_grid(shown.x, nrow=10, pad_value=255)
        png = BytesIO()
        to_pil_image(grid[: shown.x.shape[1]]).save(png, "PNG")  # make_grid makes three channels of one
        write_whole(picture, png.getvalue())
        content = CARD.format(
            name=name,
            k=len(generator.classes),
            steps=config.steps,
            megabytes=file.stat().st_size / 1e6,
            classes=", ".join(generator.classes).replace("|", "&#124;"),
            rounding=rounding,
            **described(config, file),
            **facts,
            **run.environment(),
        )
        write_whole(text, content.encode())
    return text
