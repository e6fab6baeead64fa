"""The generators that come with the study (`results/generators`): good samples in seconds, without a training."""

from pathlib import Path

from rag_lib.base import ROOT

FOLDER = ROOT / "results" / "generators"


def pretrained_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def pretrained_file(name: str) -> Path:
    return FOLDER / f"{name}.safetensors"
