"""The notebooks, executed by papermill as a user does, and what is committed of them.

A kernel takes seconds to start and to import PyTorch. So one run of `make study` serves several tests, and cells that
are tried with other parameters run in this process; nbval runs the committed notebooks in kernels of their own.
"""

import ast
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import papermill
import pytest
from committed import code_cells, outputs_of, parameter_cell, parameters_of
from nbformat import v4
from papermill.exceptions import PapermillExecutionError
from papermill.parameterize import parameterize_notebook

from rag_lib import base, study
from rag_lib.analysis import answers
from rag_lib.analysis.published import Study
from rag_lib.base import ROOT, UserError
from rag_lib.cli import NOTEBOOKS, main
from rag_lib.figures import charts
from rag_lib.notebook import check_injected
from rag_lib.notebook import execute as run_notebook

FILES = [ROOT / "notebooks" / f"{name}.ipynb" for name in NOTEBOOKS]
ALL = sorted((ROOT / "notebooks").glob("*.ipynb"))
CLASSIFY, ABLATION, LOW_DATA = ALL[2:5]
REPORTS = ALL[5:]  # 06 and 07, which train nothing


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The whole of `make study`, at preset smoke, as the process that make starts: its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("made") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAG_RESULTS", str(folder))
        patch.setenv("RAG_DEVICE", "cpu")
        patch.delenv("RAG_SMOKE", raising=False)
        command = [sys.executable, "-m", "rag_lib", "notebooks", "--preset", "smoke", "--set", "engine.workers=1"]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(folder=folder, printed=done.stdout)


@pytest.fixture
def execute(monkeypatch):
    """Runs a notebook's cells in this process, as papermill parameterises them, at preset smoke; what they print."""

    def run(path, **parameters) -> str:
        notebook = nbformat.read(path, as_version=4)
        notebook.metadata.papermill = {}
        smoke = {} if path in REPORTS else {"preset": "smoke"}
        cells = parameterize_notebook(notebook, smoke | parameters).cells
        names, inputs, printed = {}, [], StringIO()
        monkeypatch.setattr("rag_lib.notebook.get_ipython", lambda: SimpleNamespace(user_ns={"In": inputs}))
        try:
            with redirect_stdout(printed):
                for cell in cells:
                    if cell.cell_type == "code":
                        inputs.append(cell.source)
                        exec(cell.source, names)
        finally:
            charts.plt.close("all")
        return printed.getvalue()

    return run


def test_make_study_shows_progress_and_ends_with_the_table(made):
    assert made.printed.count("GAN mnist5k: 8 of 8 steps") == 1  # the notebooks that follow reuse it
    assert "cnn" in made.printed.split("Accuracy on the real test images")[1]
    *_, answer, figure = made.printed.splitlines()
    assert answer == f"The published answer: {answers.published_answer()}"
    assert Path(figure.split()[1]).exists()
    assert len(pd.read_csv(made.folder / "tables" / "classify.csv")) == 5  # notebook 03 asked for the same runs


DRAWN = {
    "01_train_gan": ["gan_curves", "training_samples", "attention"],
    "02_gallery": ["gallery", "gan_test"],
    "03_classify": ["accuracy", "confusion"],
}


@pytest.mark.parametrize(("name", "figures"), DRAWN.items(), ids=DRAWN)
def test_make_study_leaves_each_notebook_executed_and_its_figures(name, figures, made):
    executed = made.folder / "notebooks" / f"{name}-mnist5k-smoke.ipynb"
    assert str(executed) in made.printed
    for path in (ROOT, made.folder):
        assert str(path) not in executed.read_text(encoding="utf-8")
    for figure in figures:
        assert (made.folder / "figures" / f"{figure}-mnist5k-smoke.png").stat().st_size > 1_000
    images = [o.metadata.get("image/png", {}) for o in outputs_of(executed) if "image/png" in o.get("data", {})]
    assert images
    assert all(image.get("alt", "").endswith(".") for image in images)  # for those who do not see it


def test_a_bad_parameter_stops_a_notebook_with_one_line(tmp_path, results):
    """Through a kernel: papermill itself only warns of an unknown one, and IPython would print a traceback."""
    with pytest.raises(PapermillExecutionError) as error:
        papermill.execute_notebook(FILES[0], tmp_path / "out.ipynb", {"amp": "false"}, progress_bar=False)
    assert error.value.ename == "UserError"
    assert "parameter 'amp' is unknown; this notebook has dataset, preset, seed, " in error.value.evalue
    assert error.value.traceback == [f"Error: {error.value.evalue}"]
    assert not (results / "runs").exists()


def test_a_handful_of_images_is_enough_for_the_first_notebook(execute, results):
    """Regression: notebook 01 divided by more images than there were."""
    assert "train     10 images" in execute(FILES[0], overrides={"data.n_real": 10})


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Puts a notebook of two cells, parameters and a line of code, in the place of the study's own."""
    monkeypatch.setattr("rag_lib.notebook.ROOT", tmp_path)

    def write(parameters: str, code: str) -> None:
        cells = [v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}), v4.new_code_cell(code)]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        (tmp_path / "notebooks").mkdir()
        nbformat.write(v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "notebooks" / "one.ipynb")

    return write


@pytest.mark.parametrize(("parameters", "kept"), [("", False), ('engine = "local"', True)], ids=["without", "with"])
def test_a_notebook_without_the_parameter_engine_hears_nothing_of_one(parameters, kept, notebook, tmp_path):
    """Regression: `make study` on Ray with an address always stopped in notebook 01."""
    notebook(f"overrides = {{}}\n{parameters}", "print(sorted(overrides))")
    overrides = {"engine.address": "10.0.0.1:6379", "gan.lr": 1e-3}
    run_notebook("one", tmp_path / "out.ipynb", {"overrides": overrides, "engine": "ray"})
    (said,) = code_cells(tmp_path / "out.ipynb")[-1].outputs
    assert said.text == f"{sorted(overrides) if kept else ['gan.lr']}\n"


def test_a_kernel_shows_figures_whatever_matplotlibs_environment_says(notebook, tmp_path, monkeypatch):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nsavefig.transparent: True\n")
    monkeypatch.setenv("MATPLOTLIBRC", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    code = "from rag_lib import notebook\nfrom rag_lib.figures import charts\nnotebook.settings(dict)"
    code += "\nx = charts.plt.figure().subplots().plot([1])"
    notebook("", f"{code}\nassert charts.plt.rcParams['savefig.transparent'] is False")
    run_notebook("one", tmp_path / "out.ipynb", {})
    (shown,) = code_cells(tmp_path / "out.ipynb")[-1].outputs
    assert "image/png" in shown.data


def test_a_kernel_that_dies_is_named_in_one_line(notebook, tmp_path):
    notebook("", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(UserError, match="one: its kernel died, as it does where memory runs out"):
        run_notebook("one", tmp_path / "out.ipynb", {})


def test_papermill_works_from_inside_the_folder_without_an_output_path(results):
    """A notebook on its own, too: nothing has been computed before."""
    command = [sys.executable, "-m", "papermill", "03_classify.ipynb", "-p", "preset", "smoke"]
    done = subprocess.run(command, cwd=ROOT / "notebooks", capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert nbformat.reads(done.stdout, as_version=4).cells
    assert (results / "tables" / "classify.csv").exists()


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_a_committed_notebook_is_executed_small_tells_a_story_and_defines_nothing(path):
    first, *_ = nbformat.read(path, as_version=4).cells
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    code, outputs = code_cells(path), outputs_of(path)
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for output in outputs if output.output_type == "error"]
    # regression: a warning names the kernel's own files, which differ from run to run
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert path.stat().st_size < 1_000_000
    assert path in REPORTS or any("NBVAL_CHECK_OUTPUT" in cell.source for cell in code)
    nodes = [node for cell in code for node in ast.walk(ast.parse(cell.source))]
    assert not [node for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    for line in parameter_cell(path).source.splitlines():
        (node,) = ast.parse(line).body
        assert isinstance(node, ast.Assign)


@pytest.mark.parametrize(("path", "design"), [(CLASSIFY, "classify"), (ABLATION, "ablation"), (LOW_DATA, "low-data")])
@pytest.mark.usefixtures("published_results")
def test_the_stored_table_is_the_published_one(path, design):
    """Regression: classifiers got seeds of their own in every replicate, and notebook 04 still showed the old ones."""
    given = {name: v for name, v in parameters_of(path).items() if v is not None and name != "engine"}
    of = Study(path.stem, "", "", design, parameters=given)
    shown = answers.table_of(design, of.rows, of.quality)._repr_html_()
    assert any(shown in output.get("data", {}).get("text/html", "") for output in outputs_of(path))


FIRST, INJECTED = "seed = 0  # of the GAN\npreset = 'quick'", '# Parameters\nseed = 3\npreset = "quick"\n'
UNKNOWN = "# Parameters\namp = 'false'\n"


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([FIRST], None),
        ([FIRST, INJECTED], "papermill's cell sets seed = 3; delete it"),
        ([FIRST, UNKNOWN], "parameter 'amp' is unknown; this notebook has seed, preset;"),
        ([FIRST, UNKNOWN, INJECTED], "papermill's cell sets seed = 3; delete it"),  # it was mended
        ([FIRST, UNKNOWN, FIRST], None),  # it was deleted
        ([FIRST, INJECTED, FIRST.replace("0", "5"), INJECTED], "papermill's cell sets seed = 3; delete it"),
        ([FIRST, INJECTED, FIRST.replace("0", "3"), "no Python", INJECTED], None),
    ],
)
def test_of_a_sessions_cells_the_last_that_sets_parameters_counts(cells, said, capsys, monkeypatch):
    """Regression: an edited first cell was ignored silently, and a mended injected one refused until a restart."""
    monkeypatch.setattr("rag_lib.notebook.live_front_end", lambda: True)
    shown = ""
    try:
        check_injected([*cells, "settings = 1"], ("seed", "preset"))
    except UserError as e:
        shown = str(e)
    shown += capsys.readouterr().out
    assert shown.startswith(said) if said else not shown
    assert shown.count("\n") <= 1


def test_the_gallery_shows_a_pretrained_generator_without_training_one(execute, digits, results, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "GENERATORS", tmp_path / "generators")
    trained = study.run_gan(study.settings_for(preset="smoke"), digits)
    assert main(["publish", trained.id, "few_digits"]) == 0
    shutil.rmtree(trained.folder)
    assert "GAN-test accuracy, from its card: not measured" in execute(FILES[1], pretrained="few_digits")
    assert (results / "figures" / "gallery-pretrained_few_digits.png").exists()
    assert not list((results / "runs").glob("*-*"))
    with pytest.raises(UserError, match=r"\Apretrained = 'cats' is unknown; choose one of few_digits\Z"):
        execute(FILES[1], pretrained="cats")


def test_the_ablation_and_low_data_notebooks_run_with_parameters(execute, results):
    execute(ABLATION, factors=["output"], replicates=2)
    execute(LOW_DATA, n_real=[50, 60], replicates=1)
    for name in ("ablation-mnist5k-smoke-*", "low_data-mnist5k-smoke-*-cnn"):
        assert len(list((results / "figures").glob(f"{name}.*"))) == 2


def test_the_reports_redraw_every_committed_figure(execute, results):
    for path in REPORTS:
        execute(path)
    listed = ["git", "-C", str(ROOT), "ls-files", "results/figures"]
    committed = subprocess.run(listed, capture_output=True, text=True).stdout.split()
    assert {path.name for path in (results / "figures").iterdir()} >= {Path(name).name for name in committed}


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.stem)
def test_the_reports_refuse_a_study_that_is_none(path, execute):
    with pytest.raises(UserError, match="study = 'few_digit' is unknown; did you mean few_digits"):
        execute(path, studies=["few_digit"])


def test_the_details_show_the_studies_that_are_asked_for(execute):
    printed = execute(REPORTS[1], studies=["longer"])
    assert "40 runs of classifiers: make study NAME=longer" in printed
    assert "NAME=few_digits" not in printed
