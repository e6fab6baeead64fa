"""What test files of several folders share: own images, refusals, waiting, and one training as a run of the store."""

import io
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rag_lib.base import UserError
from rag_lib.classifiers import train as classifiers
from rag_lib.data.images import Images
from rag_lib.gan import train as gans
from rag_lib.runtime.store import Run, opened
from rag_lib.settings.checked import Checked
from rag_lib.settings.config import ClassifierConfig, GanConfig


def refused(*parts: object):
    """Expects a `UserError` of one line that has these parts, in this order."""
    return pytest.raises(UserError, match=r"\A.*" + ".*".join(re.escape(str(part)) for part in parts) + r".*\Z")


def noise(seed: int, height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, kind, **options)
    return file.getvalue()


def photos(classes: tuple[str, ...] = ("cat", "dog"), n: int = 4, top: str = "", seed: int = 0) -> dict[str, bytes]:
    """`n` different 32 x 32 PNG files a class, by their paths."""
    names = [f"{top}{label}/{i}.png" for label in classes for i in range(n)]
    return {name: encoded(noise(100 * seed + i)) for i, name in enumerate(names)}


def write(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    root.mkdir(parents=True, exist_ok=True)
    return root


def wait_until(holds: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"nothing happened within {seconds} seconds"
        time.sleep(0.02)


def cached(kind: str, config: Checked, fill: Callable[[Path], dict[str, Any]], gan: Run | None = None) -> Run:
    with opened(kind, config, gan) as run:
        if not run.reused:
            run.metrics.update(fill(run.folder))
    return run


def train_gan(config: GanConfig, images: Images, **given: Any) -> Run:
    return cached("gan", config, lambda folder: gans.train_gan(config, images, folder, **given))


def train_classifier(config: ClassifierConfig, images: Mapping[str, Images]) -> Run:
    return cached("classifier", config, lambda folder: classifiers.train_classifier(config, images, folder, "test"))
