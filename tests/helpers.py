"""One training as a run of the store, on images of a test's own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rag_lib.classifiers import train as classifiers
from rag_lib.data.images import Images
from rag_lib.gan import train as gans
from rag_lib.runtime.store import Run, opened
from rag_lib.settings.checked import Checked
from rag_lib.settings.config import ClassifierConfig, GanConfig


def cached(kind: str, config: Checked, fill: Callable[[Path], dict[str, Any]], gan: Run | None = None) -> Run:
    with opened(kind, config, gan) as run:
        if not run.reused:
            run.metrics.update(fill(run.folder))
    return run


def train_gan(config: GanConfig, images: Images, **given: Any) -> Run:
    return cached("gan", config, lambda folder: gans.train_gan(config, images, folder, **given))


def train_classifier(config: ClassifierConfig, images: Mapping[str, Images]) -> Run:
    return cached("classifier", config, lambda folder: classifiers.train_classifier(config, images, folder))
