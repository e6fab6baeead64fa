"""The studies from the command line: `python -m rag_lib --help`."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import rag_lib
from rag_lib import galleries, plans, plots, report, report_gan, study
from rag_lib.config import Settings
from rag_lib.data import load
from rag_lib.errors import UserError
from rag_lib.execute import execute
from rag_lib.export import export
from rag_lib.generate import generate, load_generator
from rag_lib.jobs import jobs
from rag_lib.options import Parser, add_study_options, parameters
from rag_lib.paths import results_dir
from rag_lib.publish_generator import publish
from rag_lib.runs import clean_runs, finished, list_runs

NOTEBOOKS = ("01_train_gan", "02_gallery", "03_classify")  # what make study runs


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, or 2 with one line on stderr for what the user can mend.

    130 after Ctrl-C, as shells have it.
    """
    try:
        options = parser().parse_args(arguments)
        options.command(options)
    except UserError as e:
        print(f"Error: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on where it was", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    result = Parser(prog="python -m rag_lib", description=rag_lib.__doc__)
    commands = result.add_subparsers(required=True, metavar="COMMAND")
    for command, text in (
        (train, "train the GAN (notebook 01)"),
        (gallery, "draw real and generated images side by side (notebook 02)"),
        (classify, "compare the groups and print the table (notebook 03)"),
        (low_data, "compare the arms with few real images (notebook 05)"),
        (ablation, "compare the variants of the GAN (notebook 04)"),
        (notebooks, "execute the notebooks 01 to 03 with papermill into results/notebooks, then print the table"),
    ):
        sub = commands.add_parser(command.__name__.replace("_", "-"), help=text, description=text)
        add_study_options(sub, command.__name__)
        sub.set_defaults(command=command)
    text = "write a generator's images as an image folder with a datasheet"
    sub = commands.add_parser("export", help=text, description=text)
    sub.add_argument("run", help="the name or the folder of a GAN's run, a generator.safetensors, or mnist")
    sub.add_argument("folder", type=Path, help="a new folder, which gets one subfolder a class")
    sub.add_argument("--images", type=int, default=10_000, help="how many in total (default: 10000)")
    sub.add_argument("--seed", type=int, default=0, help="of the images (default: 0)")
    sub.set_defaults(command=export_images)
    text = "put a run's generator beside those that come with the study"
    sub = commands.add_parser("publish", help=text, description=text)
    sub.add_argument("run", help="the name of a GAN's finished run")
    sub.add_argument("name", help="a new one, for load_generator and notebook 02")
    sub.set_defaults(command=publish_generator)
    sub = commands.add_parser("runs", help="list the runs under results/runs", description="list or clean the runs")
    sub.add_argument(
        "--clean", action="store_true", help="remove those that are stale, or unfinished without a checkpoint"
    )
    sub.set_defaults(command=runs)
    return result


def train(options: argparse.Namespace) -> None:
    settings = study.settings_for(**parameters(options))
    run = study.run_gan(settings, load(settings.data))
    print(f"{'reused' if run.reused else 'trained'}: {run.folder}")


def gallery(options: argparse.Namespace) -> None:
    settings = study.settings_for(**parameters(options))
    splits = load(settings.data)
    gan = study.run_gan(settings, splits)
    plots.use_style()
    figure = galleries.gallery(
        splits.train, generate(load_generator(gan.folder), 10 * len(splits.train.classes), seed=0)
    )
    print(plots.save(figure, f"gallery-{settings.name}"))


def classify(options: argparse.Namespace) -> None:
    settings = study.settings_for(**parameters(options))
    if options.dry_run:
        return print_outlook([settings])
    print_results(settings)


def print_outlook(studies: Sequence[Settings]) -> None:
    table = plans.outlook(jobs(studies))
    runs, missing = table["runs"].sum(), table["runs"].sum() - table["finished"].sum()
    print(f"{runs} runs, {missing} of them to be computed; one after another, by earlier runs, they take minutes:\n")
    print(table.round(1).reset_index().to_string(index=False, na_rep="unknown"))


def print_results(settings: Settings) -> None:
    table, qualities = study.run([settings])
    print(f"\nAccuracy on the real test images of {settings.dataset} (%), by the images trained on:\n")
    print(report.summary_with_intervals(table).T.to_string())
    print(f"\n{report.conclusion(table)}\n")
    for run in qualities.get("run_id", []):
        print(f"{report_gan.gallery_conclusion(finished(run))}\n")
    print_tables()


def print_tables() -> None:
    for name in ("classify", "classify_provenance", "quality", "quality_provenance"):
        print(f"table     {results_dir() / 'tables' / name}.csv")


def low_data(options: argparse.Namespace) -> None:
    try:
        sizes = [int(n) for n in options.n_real.split(",")]
    except ValueError as e:
        raise UserError(
            f"--n-real {options.n_real!r} must be whole numbers with commas between, such as 100,600"
        ) from e
    studies = plans.low_data(sizes, **parameters(options))
    if options.dry_run:
        return print_outlook(studies)
    table, _ = study.run(studies)
    by = ["classifier", "data.n_real", "arm"]
    print(f"\nAccuracy on the real test images of {options.dataset} (%), with 95% intervals over replicates:\n")
    print(report.interval_table(table, by).to_string())
    print("\n" + "\n".join(report.verdicts(table, by[:2])) + "\n")
    print_tables()


def ablation(options: argparse.Namespace) -> None:
    levels = plans.ablation(options.factors.split(","), **parameters(options))
    studies = list(dict.fromkeys(levels.values()))
    if options.dry_run:
        return print_outlook(studies)
    table, qualities = study.run(studies)
    table, qualities = plans.by_level(table, levels, "classifier"), plans.by_level(qualities, levels, "quality")
    print(f"\nAccuracy on the real test images of {options.dataset} (%), by the generator's variant:\n")
    print(report.level_table(table, qualities).to_string())
    print(f"\n{report.ablation_conclusion(table)}\n")
    print_tables()


def notebooks(options: argparse.Namespace) -> None:
    given = parameters(options)
    settings = study.settings_for(**given)
    if options.dry_run:
        return print_outlook([settings])
    load(settings.data)  # missing or unusable images are refused here, in one line
    os.environ["RAG_PROGRESS"] = "text"
    folder = results_dir() / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    executed = [folder / f"{name}-{settings.name}.ipynb" for name in NOTEBOOKS]
    for name, output in zip(NOTEBOOKS, executed, strict=True):
        print(f"\n{name}", flush=True)
        execute(name, output, given)
    print_results(settings)
    for path in executed:
        print(f"notebook  {path}")
    of_one = study.settings_for(**{n: v for n, v in given.items() if n not in ("arms", "replicates")})
    for name in sorted({of_one.name, settings.name}):  # 01 and 02 look at one replicate and know no arms
        for path in sorted((results_dir() / "figures").glob(f"*-{name}.png")):
            print(f"figure    {path}")


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


if __name__ == "__main__":
    sys.exit(main())
