"""The notebooks, executed by papermill as a user does, and what is committed of them."""

import ast
import subprocess
import sys

import nbformat
import pandas as pd
import papermill
import pytest
from committed import code_cells, html_of, parameters_of
from papermill.exceptions import PapermillExecutionError

from rag_lib import plans, report, study
from rag_lib.__main__ import NOTEBOOKS, main
from rag_lib.errors import UserError
from rag_lib.execute import execute as run_notebook
from rag_lib.notebook import injected_names
from rag_lib.paths import ROOT, data_dir

FILES = [ROOT / "notebooks" / f"{name}.ipynb" for name in NOTEBOOKS]
ALL = sorted((ROOT / "notebooks").glob("*.ipynb"))
CLASSIFY, ABLATION, LOW_DATA, REPORT = ALL[2:]


@pytest.fixture
def execute(tmp_path):
    """Executes a notebook at preset smoke; returns the executed cells' printed text."""

    def run(path, **parameters) -> str:
        output = tmp_path / path.name
        papermill.execute_notebook(path, output, {"preset": "smoke", **parameters}, progress_bar=False)
        outputs = [output for cell in code_cells(output) for output in cell.outputs]
        return "".join(output.get("text", "") for output in outputs)

    return run


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_notebook_runs_on_its_own_and_leaves_its_figures(path, execute, results):
    execute(path)
    figures = {figure.suffix for figure in (results / "figures").glob("*-mnist5k-smoke.*")}
    assert figures == {".png", ".svg"}


def test_the_command_line_reuses_what_a_notebook_computed(execute, results, capsys):
    execute(FILES[2])
    files = {path: path.stat().st_mtime_ns for path in (results / "runs").rglob("*") if path.is_file()}
    assert main(["classify", "--preset", "smoke"]) == 0
    assert files == {path: path.stat().st_mtime_ns for path in (results / "runs").rglob("*") if path.is_file()}
    assert len(pd.read_csv(results / "tables" / "classify.csv")) == 5


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"amp": "false"}, "parameter 'amp' is unknown; this notebook has dataset, preset, seed, "),
        ({"steps": "ten"}, "parameter 'steps' is unknown"),
        ({"gan_steps": "ten"}, "steps = 'ten' is str; it must be int"),
        ({"dataset": "mnits"}, "dataset = 'mnits' is unknown; choose one of "),
        ({"overrides": {"data.contrast": "false"}}, "contrast = 'false' is str; it must be bool"),
        ({"overrides": "gan.lr"}, "overrides = 'gan.lr' is str; it must be a dictionary"),
    ],
    ids=["unknown", "unknown-steps", "int", "dataset", "bool", "no-dictionary"],
)
def test_a_bad_parameter_stops_the_notebook_with_one_line_before_any_work(parameters, message, execute, results):
    with pytest.raises(PapermillExecutionError) as error:
        execute(FILES[0], **parameters)
    assert error.value.ename == "UserError"
    assert message in error.value.evalue
    assert error.value.traceback == [f"Error: {error.value.evalue}"]
    assert not (results / "runs").exists()


def test_a_handful_of_images_is_enough_for_the_first_notebook(execute, results):
    """Regression: notebook 01 divided by more images than there were."""
    assert "train     10 images" in execute(FILES[0], overrides={"data.n_real": 10})


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Puts a notebook of two cells, parameters and a line of code, in the place of the study's own."""
    monkeypatch.setattr("rag_lib.execute.ROOT", tmp_path)

    def write(parameters: str, code: str) -> None:
        cells = [
            nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(code),
        ]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        (tmp_path / "notebooks").mkdir()
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "notebooks" / "one.ipynb")

    return write


@pytest.mark.parametrize(("parameters", "kept"), [("", False), ('engine = "local"', True)], ids=["without", "with"])
def test_a_notebook_without_the_parameter_engine_hears_nothing_of_one(parameters, kept, notebook, tmp_path):
    """Regression: `make study` on Ray with an address always stopped in notebook 01."""
    notebook(f"overrides = {{}}\n{parameters}", "print(sorted(overrides))")
    overrides = {"engine.address": "10.0.0.1:6379", "gan.lr": 1e-3}
    run_notebook("one", tmp_path / "out.ipynb", {"overrides": overrides, "engine": "ray"})
    (said,) = code_cells(tmp_path / "out.ipynb")[-1].outputs
    assert said.text == f"{sorted(overrides) if kept else ['gan.lr']}\n"


def test_a_kernel_that_dies_is_named_in_one_line(notebook, tmp_path):
    notebook("", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(UserError, match="one: its kernel died, as it does where memory runs out"):
        run_notebook("one", tmp_path / "out.ipynb", {})


def test_papermill_works_from_inside_the_notebooks_folder_without_an_output_path(results):
    command = [sys.executable, "-m", "papermill", "03_classify.ipynb", "-p", "dataset", "nope", "-p", "preset", "smoke"]
    refused = subprocess.run(command, cwd=ROOT / "notebooks", capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert refused.returncode != 0
    assert "Error: dataset = 'nope' is unknown" in refused.stderr
    command[6] = "mnist5k"
    done = subprocess.run(command, cwd=ROOT / "notebooks", capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert nbformat.reads(done.stdout, as_version=4).cells
    assert (results / "tables" / "classify.csv").exists()


def test_all_three_run_in_order_with_progress_and_end_with_the_table(results):
    """The whole of `make study`, at preset smoke, as the process that make starts; then once more."""
    command = [sys.executable, "-m", "rag_lib", "notebooks", "--preset", "smoke"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "GAN mnist5k: 8 of 8 steps" in done.stdout
    assert "cnn" in done.stdout.split("Accuracy on the real test images")[1]
    for name in ("gan_curves", "training_samples", "attention", "gallery", "gan_test", "accuracy", "confusion"):
        for suffix in ("png", "svg"):
            assert (results / "figures" / f"{name}-mnist5k-smoke.{suffix}").stat().st_size > 1_000
        assert f"{name}-mnist5k-smoke.png" in done.stdout
    executed = [results / "notebooks" / f"{name}-mnist5k-smoke.ipynb" for name in NOTEBOOKS]
    for path in executed:
        assert path.exists()
        assert str(path) in done.stdout
        assert str(ROOT) not in path.read_text(encoding="utf-8")
        assert str(results) not in path.read_text(encoding="utf-8")
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "of 8 steps" not in again.stdout


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_committed_notebooks_are_executed_small_and_tell_a_story(path):
    cells = nbformat.read(path, as_version=4).cells
    code = code_cells(path)
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [o for cell in code for o in cell.outputs if o.output_type == "error"]
    warned = [o.text for cell in code for o in cell.outputs if o.output_type == "stream" and o.name == "stderr"]
    assert not warned  # regression: a warning names the kernel's own files, which differ from run to run
    assert path.stat().st_size < 1_000_000
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith("# ")
    assert any("image/png" in output.get("data", {}) for cell in code for output in cell.outputs)
    assert path == REPORT or any("NBVAL_CHECK_OUTPUT" in cell.source for cell in code)


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_notebooks_define_nothing_and_hold_one_parameter_a_line(path):
    code = code_cells(path)
    trees = [ast.parse(cell.source) for cell in code]
    assert not [n for tree in trees for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    (parameters,) = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    body = ast.parse(parameters.source).body
    assert all(isinstance(node, ast.Assign) for node in body)
    assert [node.lineno for node in body] == list(range(1, len(body) + 1))
    assert len(parameters.source.splitlines()) == len(body)


@pytest.mark.parametrize(
    ("path", "plan", "shown"),
    [
        (CLASSIFY, lambda **given: [study.settings_for(**given)], lambda t: report.summary_with_intervals(t).T),
        (LOW_DATA, plans.low_data, report.interval_table),
    ],
    ids=["03", "05"],
)
def test_the_stored_accuracies_are_the_published_ones(path, plan, shown, rows_of):
    assert shown(rows_of(*plan(**parameters_of(path))))._repr_html_() in html_of(path)


def test_the_stored_ablation_is_the_published_one(rows_of):
    """Regression: classifiers got seeds of their own in every replicate, and notebook 04 still showed the old ones."""
    levels = plans.ablation(**parameters_of(ABLATION))
    studies = list(dict.fromkeys(levels.values()))
    tables = [plans.by_level(rows_of(*studies, kind=kind), levels, kind) for kind in ("classifier", "quality")]
    assert report.level_table(*tables)._repr_html_() in html_of(ABLATION)


def test_injected_names_are_those_of_papermills_cell_alone():
    cells = ["a = 1", "# Parameters\nseed = 3\namp = 'false'\n", "b = 2"]
    assert injected_names(cells) == ["seed", "amp"]


@pytest.mark.skipif(not (data_dir() / "MNIST").exists(), reason="needs MNIST in RAG_DATA")
def test_the_gallery_shows_a_pretrained_generator_without_training_one(execute, results):
    printed = execute(FILES[1], pretrained="mnist")
    assert "comes trained, without the stages of its training" in printed
    assert len(list((results / "figures").glob("gallery-mnist-smoke-pretrained.*"))) == 2
    (gan,) = (results / "runs").glob("gan-*")
    assert not (gan / "history.csv").exists()


def test_the_ablation_and_low_data_notebooks_run_with_parameters(execute, results):
    execute(ABLATION, factors=["output"], replicates=2)
    execute(LOW_DATA, n_real=[50, 60], replicates=1)
    for name in ("ablation-mnist5k-smoke", "low_data-mnist5k-smoke-*-cnn"):
        assert len(list((results / "figures").glob(f"{name}.*"))) == 2


def test_the_report_names_what_is_missing_and_draws_what_is_there(execute, results):
    """From nothing; and with one study published, that one."""
    nothing = execute(REPORT)
    assert "--n-real 600 --arms generated,original,mixed,mixed_add" in nothing
    assert "python -m rag_lib low-data --n-real 50,100,300,600,3000 --dataset mnist --replicates 5" in nothing
    assert "0 runs of classifiers: python -m rag_lib classify --dataset mnist5k --preset smoke" in nothing
    assert "mnist5k, 8 iterations: not published; notebook 02 draws it" in nothing
    assert not (results / "figures").exists()
    study.run([study.settings_for(preset="smoke", arms=["original", "original_plain"])])
    published = execute(REPORT, preset="smoke")
    assert "2 runs of classifiers: python -m rag_lib classify --dataset mnist5k --preset smoke" in published
    assert " minutes without the GANs on cpu, threads " in published
    assert "4 more runs are not published" in published
