"""The studies from the command line: `python -m rag_lib --help`."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import rag_lib
from rag_lib import study
from rag_lib.analysis import answers, published, words
from rag_lib.base import UserError, pretrained_names, results_dir
from rag_lib.data.datasets import load
from rag_lib.options import Parser, add_engine_options, add_study_options, engine_overrides, parameters
from rag_lib.runtime.files import room_for
from rag_lib.runtime.progress import print_any_letter
from rag_lib.runtime.store import finished
from rag_lib.runtime.tables import clean_runs, list_runs
from rag_lib.settings.config import Settings
from rag_lib.study import designs, plan
from rag_lib.study.overrides import check_overrides
from rag_lib.study.plan import jobs
from rag_lib.synthetic.export import export
from rag_lib.synthetic.publish import publish

NOTEBOOKS = ("01_train_gan", "02_gallery", "03_classify")  # what make study runs


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code: 0, or 2 with one line on stderr for what the user can mend.

    130 after Ctrl-C, as shells have it.
    """
    print_any_letter()
    try:
        options = parser().parse_args(arguments)
        with room_for(f"{options.command.__name__} in {results_dir()}"):
            options.command(options)
            print(end="", flush=True)
    except BrokenPipeError:  # whoever read has seen enough, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except UserError as e:
        print(f"Error: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; the same command resumes", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    result = Parser(prog="python -m rag_lib", description=rag_lib.__doc__.partition("\n")[0])
    commands = result.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        return sub

    for command, text in (
        (train, "train the GAN (notebook 01)"),
        (classify, "compare the groups and print the table (notebook 03)"),
        (low_data, "compare the arms with few real images (notebook 05)"),
        (ablation, "compare the variants of the GAN (notebook 04)"),
        (notebooks, "execute the notebooks 01 to 03 with papermill into results/notebooks, then print the table"),
    ):
        add_study_options(add(command.__name__.replace("_", "-"), command, text), command.__name__)
    text = "compute a published study, by its name in results/studies.toml, and print its tables"
    sub = add("study", published_study, text)
    sub.add_argument("name", help="such as few_digits")
    add_engine_options(sub)
    sub = add("export", export_images, "write a generator's images as an image folder with a datasheet")
    with_study = " or ".join(pretrained_names())
    sub.add_argument("run", help=f"the name or the folder of a GAN's run, a generator.safetensors, or {with_study}")
    sub.add_argument("folder", type=Path, help="a new folder, which gets one subfolder a class")
    sub.add_argument("--images", type=int, default=10_000, help="how many in total (default: 10000)")
    sub.add_argument("--seed", type=int, default=0, help="of the images (default: 0)")
    sub = add("publish", publish_generator, "put a run's generator beside those that come with the study")
    sub.add_argument("run", help="the name of a GAN's finished run")
    sub.add_argument("name", help="a new one, for load_generator and notebook 02")
    sub = add("runs", runs, "list or clean the runs under results/runs")
    text = "remove those that are stale, or unfinished without a checkpoint"
    sub.add_argument("--clean", action="store_true", help=text)
    return result


def train(options: argparse.Namespace) -> None:
    settings = study.settings_for(**parameters(options))
    run = study.run_gan(settings, load(settings.data))
    print(f"{'reused' if run.reused else 'trained'}: {run.folder}")


def classify(options: argparse.Namespace) -> None:
    compute("classify", parameters(options), options.dry_run)


def low_data(options: argparse.Namespace) -> None:
    try:
        sizes = [int(n) for n in options.n_real.split(",")]
    except ValueError as e:
        text = f"--n-real {options.n_real!r} must be whole numbers with commas between, such as 100,600"
        raise UserError(text) from e
    compute("low-data", parameters(options) | {"n_real": sizes}, options.dry_run)


def ablation(options: argparse.Namespace) -> None:
    compute("ablation", parameters(options) | {"factors": options.factors.split(",")}, options.dry_run)


def published_study(options: argparse.Namespace) -> None:
    asked = published.study(options.name)

    def make(overrides: Mapping[str, Any] | None = None, content: str = "", **given: Any) -> Settings:
        own = {"engine": options.engine, "overrides": {**check_overrides(overrides), **engine_overrides(options)}}
        settings = study.settings_for(**given, **own)
        if settings.data.content != content:
            raise UserError(
                f"{settings.dataset} holds other images than the published ones (their content is "
                f"{settings.data.content[:12]}, not {content[:12]}); docs/own-images.md has the script that made these"
            )
        return settings

    show_results(asked.design, asked.levels(make), options.dry_run)


def compute(design: str, given: Mapping[str, Any], dry_run: bool) -> None:
    show_results(design, designs.DESIGNS[design](make=study.settings_for, **given), dry_run)


def show_results(design: str, levels: Mapping[tuple, Settings], dry_run: bool) -> None:
    """Compute what is missing of a study, and print its table and its answers.

    `dry_run`: print how many runs it takes, and how long, instead.
    """
    studies = list(dict.fromkeys(levels.values()))
    if dry_run:
        return print_outlook(studies)
    table, qualities = study.run(studies)
    if design == "ablation":
        table, qualities = designs.by_level(table, levels, "classifier"), designs.by_level(qualities, levels, "quality")
    print(f"\nAccuracy on the real test images of {studies[0].dataset} (%), means over the replicates:\n")
    print(answers.table_of(design, table, qualities).to_string())
    print(f"\n{words.conclusion(table) if design == 'classify' else answers.answer_of(design, table)}\n")
    for run in qualities.get("run_id", []) if design == "classify" else ():
        print(f"{words.gallery_conclusion(finished(run))}\n")
    print(f"tables    {results_dir() / 'tables'}")


def print_outlook(studies: Sequence[Settings]) -> None:
    table = plan.outlook(jobs(studies))
    runs, missing = table["runs"].sum(), table["runs"].sum() - table["finished"].sum()
    print(f"{runs} runs, {missing} of them to be computed; one after another, by earlier runs, they take minutes:\n")
    print(table.round(1).reset_index().to_string(index=False, na_rep="unknown"))


def notebooks(options: argparse.Namespace) -> None:
    from rag_lib.notebook import execute  # with IPython, which the other commands need not

    given = parameters(options)
    settings = study.settings_for(**given)
    if options.dry_run:
        return print_outlook([settings])
    study.run([settings])  # on every core; the notebooks find the runs finished
    os.environ["RAG_PROGRESS"] = "text"
    folder = results_dir() / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    executed = [folder / f"{name}-{settings.name}.ipynb" for name in NOTEBOOKS]
    for name, output in zip(NOTEBOOKS, executed, strict=True):
        print(f"\n{name}", flush=True)
        execute(name, output, given)
    show_results("classify", {(): settings}, dry_run=False)
    for path in executed:
        print(f"notebook  {path}")
    print(f"figures   {results_dir() / 'figures'}")
    print(f"\nThe published answer: {answers.published_answer()}\nfigure    {answers.FIGURE}")


def export_images(options: argparse.Namespace) -> None:
    print(export(options.run, options.folder, options.images, options.seed) / "DATASHEET.md")


def publish_generator(options: argparse.Namespace) -> None:
    print(publish(options.run, options.name))


def runs(options: argparse.Namespace) -> None:
    if options.clean:
        for name in clean_runs():
            print(f"removed {name}")
    table = list_runs()
    print(table.to_string(index=False) if len(table) else f"no runs in {results_dir() / 'runs'}")
