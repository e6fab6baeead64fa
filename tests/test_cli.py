"""`python -m rag_lib`: the same studies, and one line for what the user can mend."""

import io
import shutil
import subprocess
import sys
import zipfile

import pandas as pd
import pytest
from PIL import Image

from rag_lib.base import ROOT, UserError, data_dir, results_dir
from rag_lib.cli import main
from rag_lib.settings.arms import DEFAULT_ARMS


def test_train_gallery_and_classify_share_their_runs(results, capsys):
    assert main(["train", "--preset", "smoke"]) == 0
    assert "trained: " in capsys.readouterr().out
    assert main(["gallery", "--preset", "smoke"]) == 0
    assert (results / "figures" / "gallery-mnist5k-smoke.png").exists()
    assert main(["train", "--preset", "smoke"]) == 0
    assert "reused: " in capsys.readouterr().out
    assert main(["classify", "--preset", "smoke"]) == 0
    printed = capsys.readouterr().out
    rows = [line.split()[0] for line in printed.splitlines() if line.startswith(DEFAULT_ARMS)]
    assert rows == list(DEFAULT_ARMS)
    assert len(pd.read_csv(results / "tables" / "classify.csv")) == 5


def test_options_reach_the_settings(results, capsys):
    arguments = ["train", "--preset", "smoke", "--seed", "3", "--gan-steps", "2", "--set", "gan.schedule=cosine"]
    assert main([*arguments, "--set", "gan.lr=1e-3"]) == 0
    (config,) = results.rglob("config.json")
    text = config.read_text()
    for expected in ('"seed": 3', '"steps": 2', '"schedule": "cosine"', '"lr": 0.001'):
        assert expected in text


def test_runs_are_listed_and_cleaned(results, capsys):
    assert main(["runs"]) == 0
    assert "no runs" in capsys.readouterr().out
    main(["train", "--preset", "smoke"])
    (results / "runs" / "gan-000000000000").mkdir()
    (results / "runs" / "my-backup").mkdir()
    assert main(["runs", "--clean"]) == 0
    printed = capsys.readouterr().out
    assert "removed gan-000000000000" in printed
    assert "my-backup" not in printed
    assert (results / "runs" / "my-backup").exists()
    assert printed.strip().endswith("mnist5k 8 seed 0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "mnits"], "dataset = 'mnits' is unknown; choose one of mnist5k, "),
        (["--dataset", "../../etc"], "dataset = '../../etc' is unknown"),
        (["--dataset", "folder:no/such/place"], "no/such/place does not exist"),
        (["--preset", "fast"], "preset = 'fast' is unknown; choose one of paper, quick, short, best, smoke"),
        (["--seed", "-1"], "seed = -1 is out of range; it must be at least 0"),
        (["--gan-steps", "0"], "steps = 0 is out of range"),
        (["--set", "gan.step=5"], "override 'gan.step' is unknown; did you mean gan.steps? allowed: "),
        (["--set", "gan.steps"], "--set 'gan.steps' must be FIELD=VALUE"),
        (["--set", "gan.steps=ten"], "steps = 'ten' is str; it must be int"),
        (["--set", "data.contrast=false"], "contrast = 'false' is str; it must be bool"),
        (["--set", "classifiers={'cnnn': 1}"], "classifier = 'cnnn' is unknown; choose one of cnn, "),
        (
            ["--set", "resnet50.steps=5"],
            "override 'resnet50.steps' is of no use: resnet50 is not among the classifiers",
        ),
        (
            ["--set", "classifiers={{'cnn': 1}}"],
            """classifiers = "{{'cnn': 1}}" must be a dictionary of seeds, as in --set""",
        ),
        (["--set", f"classifiers={'[' * 1000}"], "must be a dictionary of seeds"),
        (["--arms", "mixed:0.3333333,mixed:0.3333334"], "two shares that six digits do not tell apart"),
        (["--gan-steps", "ten"], "invalid int value: 'ten'"),
        (["--epochs", "5"], "unrecognized arguments: --epochs 5"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2_before_any_work(arguments, message, results, capsys):
    assert main(["classify", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not results.exists()


def test_a_timm_model_that_does_not_exist_is_refused_before_any_training(results, capsys):
    assert main(["classify", "--preset", "smoke", "--set", "classifiers={'timm:nope': 1}"]) == 2
    assert "timm has no model 'nope'" in capsys.readouterr().err
    assert not results.exists()


def test_the_command_works_from_any_folder(tmp_path):
    """As a process of its own: the exit code and the one line are what a shell sees."""
    command = [sys.executable, "-m", "rag_lib", "train", "--dataset", "nope"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: dataset = 'nope' is unknown")
    assert str(ROOT) not in done.stderr


def own(path, **files: bytes) -> str:
    """A folder of two classes with four images each, plus these files (`__` for a slash)."""
    for label in ("cat", "dog"):
        (path / label).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (32, 32), (i, i, i)).save(path / label / f"{i}.png")
    for name, data in files.items():
        (path / name.replace("__", "/")).write_bytes(data)
    return f"folder:{path}"


def unusable(kind: str, path) -> tuple[str, str]:
    """A dataset that cannot be used, and what the one line must say of it."""
    if kind == "one class":
        dataset = own(path)
        shutil.rmtree(path / "dog")
        return dataset, "only the class 'cat'"
    if kind == "truncated image":
        whole = io.BytesIO()
        Image.effect_noise((64, 64), 50).save(whole, "PNG")
        return own(path, cat__bad=b"", **{"cat__bad.png": whole.getvalue()[:500]}), "cat/bad.png cannot be read"
    if kind == "no image":
        return own(
            path, **{"cat__bad.png": b"not an image"}
        ), "cat/bad.png cannot be read as an image (its format is unknown)"
    if kind == "small image":
        small = io.BytesIO()
        Image.new("RGB", (5, 40)).save(small, "PNG")
        return own(path, **{"dog__small.png": small.getvalue()}), "dog/small.png is 5 x 40 pixels"
    path.mkdir()
    with zipfile.ZipFile(path / "own.zip", "w") as archive:
        archive.writestr("../cat/0.png", b"")
    return f"folder:{path / 'own.zip'}", "leads outside the archive"


@pytest.mark.parametrize("kind", ["one class", "truncated image", "no image", "small image", "archive"])
@pytest.mark.parametrize("command", ["train", "notebooks"])
def test_unusable_own_images_get_one_line_before_any_work(kind, command, tmp_path, results, capsys):
    dataset, message = unusable(kind, tmp_path / "own")
    assert main([command, "--preset", "smoke", "--dataset", dataset]) == 2
    *told, error = capsys.readouterr().err.splitlines()
    assert message in error
    assert all(line.startswith(str(tmp_path)) for line in told)  # what classes there are
    assert not (results / "runs").exists()


def test_relative_folders_of_the_environment_start_at_the_repository(tmp_path, monkeypatch):
    """Regression: they meant one folder in the shell and another in a kernel, which starts beside its notebook."""
    monkeypatch.chdir(tmp_path)
    for variable, folder in (("RAG_RESULTS", results_dir), ("RAG_DATA", data_dir)):
        monkeypatch.setenv(variable, "own/folder")
        assert folder() == ROOT / "own" / "folder"
    monkeypatch.setattr("rag_lib.base.ROOT", tmp_path)  # as site-packages, without the repository around it
    for value in ("own/folder", ""):
        monkeypatch.setenv("RAG_RESULTS", value)
        with pytest.raises(UserError, match=f"RAG_RESULTS: rag_lib is installed in {tmp_path}, without its repository"):
            results_dir()


def test_a_relative_folder_starts_where_the_shell_is(tmp_path, monkeypatch, results):
    own(tmp_path / "own")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--preset", "smoke", "--dataset", "folder:own"]) == 0
    assert '"dataset": "folder:own"' in next(results.rglob("config.json")).read_text()


def test_a_letter_that_the_console_does_not_have_ends_nothing(tmp_path, monkeypatch):
    own(tmp_path / "own")
    (tmp_path / "own" / "cat").rename(tmp_path / "own" / "鳥")
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    command = [sys.executable, "-m", "rag_lib", "train", "--preset", "smoke", "--dataset", f"folder:{tmp_path / 'own'}"]
    done = subprocess.run([*command, "--set", "gan.labels=per_class"], capture_output=True, encoding="cp1252")
    assert done.returncode == 0, done.stderr
    assert "GAN folder:" in done.stdout
    assert ", ?: " in done.stdout


def test_a_reader_who_has_seen_enough_gets_no_traceback(results):
    for i in range(300):
        (results / "runs" / f"gan-{i:012}").mkdir(parents=True)
    runs = subprocess.Popen([sys.executable, "-m", "rag_lib", "runs"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    runs.stdout.close()
    assert (runs.stderr.read(), runs.wait()) == (b"", 0)


def test_an_unknown_value_of_rag_smoke_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("RAG_SMOKE", "yes")
    assert main(["train"]) == 2
    assert "RAG_SMOKE = 'yes' is unknown" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("RAG_DEVICE", "toaster", "Error: RAG_DEVICE = 'toaster'"),
        ("RAG_DEVICE", "hpu", "Error: RAG_DEVICE = 'hpu' cannot be used here"),
        ("RAG_DEVICE", "meta", "Error: RAG_DEVICE = 'meta' cannot be used here"),
        ("RAG_PROGRESS", "loud", "Error: RAG_PROGRESS = 'loud'"),
        ("RAG_RESULTS", "/dev/null/here", "Error: /dev/null/here cannot be written to; set RAG_RESULTS to a folder"),
    ],
)
def test_an_environment_that_asks_in_vain_is_refused_before_any_work(
    name, value, message, monkeypatch, capsys, results
):
    monkeypatch.setenv(name, value)
    assert main(["train", "--preset", "smoke"]) == 2
    assert message in capsys.readouterr().err
    assert not results.exists()


def test_low_data_and_ablation_print_their_tables(results, capsys):
    assert main(["low-data", "--preset", "smoke", "--n-real", "50", "--arms", "original,mixed_add"]) == 0
    printed = capsys.readouterr().out
    assert "real images" in printed
    assert "mixed_add" in printed
    assert "too few" in printed or "at least 5 replicates" in printed
    assert main(["ablation", "--preset", "smoke", "--factors", "output"]) == 0
    printed = capsys.readouterr().out
    assert "S * X + X" in printed
    assert "output, **S * X** against S * X + X: " in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["low-data", "--n-real", "many"], "--n-real 'many' must be whole numbers"),
        (["low-data", "--n-real", "5"], "data.n_real = 5 is out of range"),
        (["low-data", "--n-real", "4000"], "it must be at least 10 and at most 3500"),
        (["ablation", "--factors", "colour"], "factors = 'colour' is unknown; choose one of attention, output"),
        (["ablation", "--arms", "original,mixed"], "must be one arm with generated images"),
        (["ablation", "--arms", "generatd"], "arm = 'generatd' is unknown"),
        (["classify", "--arms", "half"], "arm = 'half' is unknown; choose one of generated, original"),
        (["classify", "--arms", "mixed,mixed"], "names an arm twice"),
        (["classify", "--replicates", "0"], "replicates = 0 is out of range"),
        (["classify", "--set", "gan.labels=none"], "gan.labels = 'none' is unknown; choose one of conditional"),
        (["classify", "--set", "classifier.share=0.3"], "override 'classifier.share' is unknown"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_in_one_line_before_any_work(arguments, message, results, capsys):
    assert main([*arguments, "--preset", "smoke"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (results / "runs").exists()
