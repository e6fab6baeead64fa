"""The command line's options for a study, and the parameters that they give."""

import argparse
import ast
import os
from typing import Any

from rag_lib.base import UserError
from rag_lib.data.datasets import DATASETS
from rag_lib.settings.presets import DEFAULT_PRESET, PRESETS
from rag_lib.study import designs


class Parser(argparse.ArgumentParser):
    """argparse with this project's one line for what the user can mend."""

    def error(self, message: str):
        raise UserError(f"{message}; see {self.prog} --help")


def add_study_options(sub: argparse.ArgumentParser, command: str) -> None:
    """Add the options of one of the commands `train`, `classify`, `low_data`, `ablation` and `notebooks`."""
    datasets = ", ".join(name for name in DATASETS if name != "folder")
    sub.add_argument("--dataset", default="mnist5k", help=f"{datasets}, or folder:PATH (default: mnist5k)")
    sub.add_argument("--preset", default=DEFAULT_PRESET, help=f"{', '.join(PRESETS)} (default: {DEFAULT_PRESET})")
    sub.add_argument("--seed", type=int, default=0, help="the GAN's seed (default: 0)")
    sub.add_argument("--gan-steps", type=int, help="the GAN's iterations (default: the preset's)")
    sub.add_argument("--classifier-steps", type=int, help="the classifiers' iterations (default: the preset's)")
    if command != "train":
        sub.add_argument("--arms", help="commas between them (default: those of the notebook)")
        text = "draws of the real images, each with a GAN of its own (default: 1; 5 give a verdict)"
        sub.add_argument("--replicates", type=int, default=1, help=text)
        add_engine_options(sub)
    text = "any other field, such as gan.lr=1e-4; may be given again"
    sub.add_argument("--set", dest="overrides", metavar="FIELD=VALUE", action="append", default=[], help=text)
    if command == "low_data":
        sub.add_argument("--n-real", default="100,600", help="real images in total, commas between (default: 100,600)")
    if command == "ablation":
        text = f"of {', '.join(designs.ABLATION)}; commas between them (default: attention,output)"
        sub.add_argument("--factors", default="attention,output", help=text)


def add_engine_options(sub: argparse.ArgumentParser) -> None:
    """Add the options that say where runs are computed, or that none are."""
    sub.add_argument("--engine", default="local", help="local, every core of this machine, or ray (default: local)")
    text = "of the Ray cluster's head (default: auto, the cluster that this machine is in)"
    sub.add_argument("--address", help=text)
    sub.add_argument("--dry-run", action="store_true", help="print how many runs it takes, and how long; stop")


def engine_overrides(options: argparse.Namespace) -> dict[str, Any]:
    """Return the overrides that `--address` stands for."""
    return {"engine.address": options.address} if options.address else {}


def parameters(options: argparse.Namespace) -> dict[str, Any]:
    """Return the parameters of `study.settings_for`, and of the notebooks, that the options give."""
    overrides = {}
    for text in options.overrides:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {text!r} must be FIELD=VALUE, such as gan.lr=1e-4")
        try:
            overrides[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # those that it documents
            overrides[name] = value  # a word, such as cosine
    names = ("dataset", "preset", "seed", "gan_steps", "classifier_steps")
    given = {name: getattr(options, name) for name in names} | {"overrides": overrides}
    if "arms" in options:
        given |= {"arms": None if options.arms is None else options.arms.split(","), "replicates": options.replicates}
        given["engine"] = options.engine
        overrides |= engine_overrides(options)
    kind, _, path = options.dataset.partition(":")
    if kind == "folder" and path:  # a shell's relative path starts where the shell is; a notebook's, at the repository
        given["dataset"] = f"folder:{os.path.abspath(os.path.expanduser(path))}"
    return given
