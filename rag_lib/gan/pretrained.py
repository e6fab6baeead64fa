"""The generators that come with the study (`results/generators`): good samples in seconds, without a training."""

from dataclasses import replace
from pathlib import Path

from rag_lib.base import ROOT, UserError
from rag_lib.runtime.files import load_weights, save_weights, sha256
from rag_lib.settings.config import GanConfig, as_dict, from_dict

FOLDER = ROOT / "results" / "generators"


def pretrained_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def pretrained_file(name: str) -> Path:
    """The file of the pretrained generator `name`; raises `UserError` for an unknown one."""
    if name not in pretrained_names():
        raise UserError(f"pretrained = {name!r} is unknown; choose one of {', '.join(pretrained_names())}")
    return FOLDER / f"{name}.safetensors"


def pretrained_config(name: str) -> GanConfig:
    """What it was trained with, its file's SHA-256 in `pretrained`: as a run it is another one than that training's.

    Raises `UserError` for an unknown name.
    """
    path = pretrained_file(name)
    _, card = load_weights(path)
    return replace(from_dict("gan", card["config"]), pretrained=sha256(path))


def adopt(config: GanConfig, folder: Path) -> dict[str, int]:
    """Makes the pretrained generator of `config` the one of a run in `folder`, in full precision; the run's metrics.

    Raises `UserError` where none has that SHA-256.
    """
    for path in map(pretrained_file, pretrained_names()):
        if sha256(path) == config.pretrained:
            weights, card = load_weights(path)
            if replace(from_dict("gan", card["config"]), pretrained=config.pretrained) != config:
                raise UserError(
                    f"the generator {path.stem} was trained on its own images, with its own settings; change none"
                )
            full = {name: t.float() if t.is_floating_point() else t for name, t in weights.items()}
            of_run = {"config": as_dict(config), "classes": card["classes"]}
            save_weights(folder / "generator.safetensors", full, of_run)
            return {name: card["published"][name] for name in ("parameters_g", "parameters_d")}
    raise UserError(f"no generator in {FOLDER} has the SHA-256 {config.pretrained}; it was replaced by another one")
