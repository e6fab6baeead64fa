"""A generated set as an image folder with a datasheet, for whoever trains without this project."""

import hashlib
import json
from pathlib import Path

from rag_lib.config import GanConfig, as_dict
from rag_lib.errors import UserError
from rag_lib.generate import generate, load_generator, to_pil
from rag_lib.paths import results_dir
from rag_lib.provenance import environment
from rag_lib.runs import run_folder
from rag_lib.storage import room_for, write_whole

DATASHEET = """# Generated images

{n:,} images of {size} x {size} pixels, {colours}, that no camera took: drawn by a residual attention GAN that was
trained on `{dataset}`. One folder a class: {classes}. The numbers in the file names are the images' places in the set.

| | |
|---|---|
| generator | `{generator}`, SHA-256 `{digest}` |
| seed of the images | {seed}; image i depends on it and on i alone |
| images by class | {counts} |
| labels | {labels} |
| GAN-test accuracy | {fidelity} |
| drawn by | rag_lib {rag_lib}, commit {commit}, torch {torch}, on {device} |

Whether such images make a classifier better must be measured, against the same real images without them: they can
carry wrong labels, show less variety than real ones, and repeat real ones that the generator was shown.

The generator's settings:

```json
{config}
```
"""

LABELS = {
    "conditional": "the class that the generator was asked for",
    "per_class": "each class has a generator of its own",
    "pseudo": "what a classifier sees that was trained on the same real images",
}


def export(run: str | Path, folder: Path, n: int, seed: int) -> Path:
    """Writes `generate(load_generator(run), n, seed)` as `folder/<class>/<i>.png` and `folder/DATASHEET.md`.

    The set reads back as `folder:PATH` or by torchvision's ImageFolder. Raises `UserError` where `folder` holds
    something already.
    """
    generator = load_generator(run)
    if n < 1:
        raise UserError(f"--images {n} must be at least 1")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty; name a folder that is new")
    images = generate(generator, n, seed)
    with room_for(f"the images in {folder}"):
        for name in images.classes:
            (folder / name).mkdir(parents=True, exist_ok=True)
        for i, (x, y) in enumerate(zip(images.x, images.y, strict=True)):
            to_pil(x).save(folder / images.classes[y] / f"{i:06d}.png")
        weights = Path(run) if Path(run).exists() else run_folder(str(run))
        weights = weights / "generator.safetensors" if weights.is_dir() else weights
        counts = images.y.bincount(minlength=len(images.classes)).tolist()
        sheet = DATASHEET.format(
            n=n,
            size=images.x.shape[-1],
            colours="grey" if images.x.shape[1] == 1 else "in colour",
            dataset=as_dict(generator.config.data)["dataset"],
            classes=", ".join(images.classes),
            generator=weights.parent.name,
            digest=hashlib.sha256(weights.read_bytes()).hexdigest(),
            seed=seed,
            counts=", ".join(f"{name} {count:,}" for name, count in zip(images.classes, counts, strict=True)),
            labels=LABELS[generator.config.labels],
            fidelity=fidelity(generator.config),
            config=json.dumps(as_dict(generator.config), indent=1),
            **environment(generator.config.precision),
        )
        write_whole(folder / "DATASHEET.md", sheet.encode())  # last: it means that all images are there
    return folder


def fidelity(config: GanConfig) -> str:
    """The GAN-test accuracy that a finished run has measured for the generator of this config, in words."""
    for path in sorted((results_dir() / "runs").glob("quality-*/metrics.json")):
        if json.loads((path.parent / "config.json").read_text())["gan"] == as_dict(config):
            metrics = json.loads(path.read_text())
            return (
                f"{100 * metrics['gan_test_accuracy']:.2f}%: how often a classifier trained on the same real images, "
                f"right about {100 * metrics['judge_test_accuracy']:.2f}% of the real test images, sees the label"
            )
    return "not measured; notebook 02_gallery measures it"
