"""A generated set as an image folder with a datasheet, for whoever trains without this project."""

import json
import secrets
import shutil
from pathlib import Path
from typing import Any

from torchvision.transforms.functional import to_pil_image

from rag_lib.base import UserError, check_value, results_dir
from rag_lib.data.images import Images
from rag_lib.gan.networks import Generator, OnePerClass
from rag_lib.runtime.files import read_json, room_for, sha256, write_whole
from rag_lib.runtime.provenance import attempts_at, environment
from rag_lib.runtime.store import finished, names_itself, run_folder, run_id
from rag_lib.settings.config import GanConfig, as_dict, from_dict
from rag_lib.synthetic.generate import generate, load_generator, weights_file

DATASHEET = """# Generated images

{n:,} images of {size} x {size} pixels, {colours}, that no camera took: drawn by a residual attention GAN that was
trained on `{dataset}`. One folder a class; the numbers in the file names are the images' places in the set.

| | |
|---|---|
| generator | `{run}`, SHA-256 of its file `{digest}` |
| seed of the images | {seed}; image i depends on it and on i alone |
| labels | {labels} |
| GAN-test accuracy | {fidelity} |
| drawn by | rag_lib {rag_lib}, commit {commit}, torch {torch}, on {device} |

Whether such images make a classifier better must be measured, against the same real images without them: they can
carry wrong labels, show less variety than real ones, and repeat real ones that the generator was shown.

How the generator numbers the classes. torchvision's ImageFolder numbers the folders by the alphabet, without those that
have no image: join with other images by the classes' names.

| index | class | images |
| --- | --- | --- |
{classes}

The generator's settings:

```json
{details}
```
"""

SEEN = "what a classifier sees that was trained on the same real images"
LABELS = {
    "conditional": "the class that the generator was asked for",
    "per_class": "each class has a generator of its own",
    "pseudo": SEEN,
    "relabelled": SEEN,
}


def export(run: str | Path, folder: Path, n: int, seed: int) -> Path:
    """Write `generate(load_generator(run), n, seed)` as `folder/<class>/<i>.png` and `folder/DATASHEET.md`.

    The set reads back by torchvision's ImageFolder, and with three images a class as `folder:PATH`. The folder appears
    when all is in it. Raises `UserError` where it holds something already or cannot be made.
    """
    generator, weights = load_generator(run), weights_file(run)
    check_value("--images", n, int, low=1)
    place = folder.resolve()
    if place.is_file() or (place.is_dir() and any(place.iterdir())):
        raise UserError(f"{folder} exists and is no empty folder; name one that is new")
    if place == Path.cwd():
        raise UserError(f"{folder} is the folder that you are in; name one that is new")
    unfinished = place.with_name(f".{place.name}-{secrets.token_hex(8)}")
    try:
        unfinished.mkdir(parents=True)
    except OSError as e:
        raise UserError(f"{folder} cannot be made: {e.strerror}; name another folder") from e
    try:
        images = generate(generator, n, seed)
        with room_for(f"the images in {unfinished}"):
            for i, (x, y) in enumerate(zip(images.x, images.y, strict=True)):
                of_class = unfinished / images.classes[y]
                of_class.mkdir(exist_ok=True)
                to_pil_image(x).save(of_class / f"{i:06d}.png")
            write_whole(unfinished / "DATASHEET.md", datasheet(generator, weights, images, seed).encode())
        if place.is_dir():
            place.rmdir()
        unfinished.rename(place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def datasheet(generator: Generator | OnePerClass, weights: Path, images: Images, seed: int) -> str:
    """Where these images of the generator in the file `weights` come from, and how far to trust their labels."""
    config = generator.config
    known = generator.published or {"run": run_id("gan", config), "fidelity": fidelity(config, weights)}
    counts = images.y.bincount(minlength=len(images.classes)).tolist()
    rows = enumerate(zip(images.classes, counts, strict=True))
    return DATASHEET.format(
        n=len(images),
        seed=seed,
        **described(config, weights),
        **known,
        classes="\n".join(f"| {i} | {name.replace('|', '&#124;')} | {n:,} |" for i, (name, n) in rows),
        **environment(config.precision),
    )


def described(config: GanConfig, weights: Path) -> dict[str, Any]:
    """Return what a set's datasheet and a generator's card say alike of the generator in the file `weights`."""
    return {
        "size": config.data.size,
        "colours": "grey" if config.data.channels == 1 else "in colour",
        "dataset": as_dict(config.data)["dataset"],
        "digest": sha256(weights),
        "labels": LABELS[config.labels],
        "details": json.dumps(as_dict(config), indent=1, ensure_ascii=False),
    }


def fidelity(config: GanConfig, weights: Path) -> str:
    """Return the GAN-test accuracy that a finished run has measured for the generator in this file, in words."""
    digest = sha256(weights)
    own = run_folder(run_id("gan", config)) / "generator.safetensors"
    if own.exists() and sha256(own) == digest:
        for folder in sorted((results_dir() / "runs").glob("quality-*")):
            saved, run = read_json(folder / "config.json"), finished(folder.name)
            seen = {attempt.get("generator") for attempt in attempts_at(folder)}  # of which training
            of_these = run and names_itself(run.id, saved) and from_dict("quality", saved).gan == config
            if of_these and seen == {digest[:12]}:
                return (
                    f"{100 * run.metrics['gan_test_accuracy']:.2f}%: how often a classifier trained on the same real "
                    f"images, right about {100 * run.metrics['judge_test_accuracy']:.2f}% of the real test images, "
                    "sees the label"
                )
    return "not measured; notebook 02_gallery measures it"
