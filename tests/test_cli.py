"""`python -m rag_lib`: the same studies, and one line for what the user can mend."""

import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
from helpers import photos, write

from rag_lib.base import ROOT, UserError, data_dir, results_dir
from rag_lib.cli import main
from rag_lib.settings.arms import DEFAULT_ARMS

COMMAND = [sys.executable, "-m", "rag_lib"]


def test_train_and_classify_share_their_runs(results, capsys):
    for command, said in (("train", "trained: "), ("train", "reused: "), ("classify", DEFAULT_ARMS[-1])):
        assert main([command, "--preset", "smoke"]) == 0
        assert said in capsys.readouterr().out
    assert len(list((results / "runs").glob("gan-*"))) == 1
    assert len(pd.read_csv(results / "tables" / "classify.csv")) == len(DEFAULT_ARMS)


def test_options_reach_the_settings(results):
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


REFUSED = {
    "classify --dataset mnits": "dataset = 'mnits' is unknown; choose one of mnist5k, ",
    "classify --dataset folder:no/such/place": "no/such/place does not exist",
    "classify --preset fast": "preset = 'fast' is unknown; did you mean first? choose one of ",
    "classify --epochs 5": "unrecognized arguments: --epochs 5",
    "classify --set gan.steps": "--set 'gan.steps' must be FIELD=VALUE",
    "classify --set classifiers={'cnnn':1}": "classifier = 'cnnn' is unknown; did you mean cnn? choose one of cnn, ",
    "classify --set classifiers={'timm:nope':1}": "timm has no model 'nope'",
    "classify --set classifiers={{'cnn':1}}": "must be a dictionary of seeds, as in {'cnn': 3}",
    f"classify --set classifiers={'[' * 1000}": "must be a dictionary of seeds",
    "classify --arms=": "arm = '' is unknown",  # regression: it meant all of them
    "classify --arms mixed:0.3333333,mixed:0.3333334": "two shares that six digits do not tell apart",
    "classify --replicates 0": "replicates = 0 is out of range",
    "low-data --n-real many": "--n-real 'many' must be whole numbers",
    "low-data --n-real 5": "data.n_real = 5 is out of range",
    "RAG_SMOKE=yes train": "RAG_SMOKE = 'yes' is unknown",
    "RAG_DEVICE=cuda:99 train": "RAG_DEVICE = 'cuda:99' cannot be used here",
    "RAG_DEVICE=meta train": "RAG_DEVICE = 'meta' cannot be used here",
    "RAG_PROGRESS=loud train": "RAG_PROGRESS = 'loud'",
    "RAG_RESULTS=/dev/null/here train": "/dev/null/here cannot be written to; set RAG_RESULTS to a folder",
}


@pytest.mark.parametrize(("line", "message"), REFUSED.items(), ids=[line[:60] for line in REFUSED])
def test_what_cannot_be_is_refused_in_one_line_before_any_work(line, message, monkeypatch, results, capsys):
    words = line.split()
    if line.startswith("RAG_"):
        monkeypatch.setenv(*words.pop(0).split("="))
    assert main([words[0], "--preset", "smoke", *words[1:]]) == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (results / "runs").exists()


def test_the_command_works_from_any_folder(tmp_path):
    """As a process of its own: the exit code and the one line are what a shell sees."""
    done = subprocess.run([*COMMAND, "train", "--dataset", "nope"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: dataset = 'nope' is unknown")


@pytest.fixture
def own(tmp_path):
    """A folder of two classes with four images each, and a file that is no image."""
    return write(tmp_path / "own", photos() | {"cat/notes.txt": b""})


UNUSABLE = {  # by its names already, and only once it is decoded
    "only the class 'cat'": lambda own: shutil.rmtree(own / "dog"),
    "cat/0.png cannot be read": lambda own: os.truncate(own / "cat" / "0.png", 60),
}


@pytest.mark.parametrize("message", UNUSABLE)
@pytest.mark.parametrize("command", ["train", "notebooks"])
def test_unusable_own_images_get_one_line_before_any_work(command, message, own, tmp_path, results, capsys):
    UNUSABLE[message](own)
    assert main([command, "--preset", "smoke", "--dataset", f"folder:{own}"]) == 2
    *told, error = capsys.readouterr().err.splitlines()
    assert message in error
    assert all(line.startswith(str(tmp_path)) for line in told)  # what classes there are, and what is left out
    assert not (results / "runs").exists()
    assert not (results / "notebooks").exists()


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


def test_a_relative_folder_starts_where_the_shell_is(own, monkeypatch, results):
    monkeypatch.chdir(own.parent)
    assert main(["train", "--preset", "smoke", "--dataset", "folder:own"]) == 0
    assert '"dataset": "folder:own"' in next(results.rglob("config.json")).read_text()


def test_a_letter_that_the_console_does_not_have_ends_nothing(own, monkeypatch):
    (own / "cat").rename(own / "鳥")
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    command = [*COMMAND, "train", "--preset", "smoke", "--dataset", f"folder:{own}", "--set", "gan.labels=per_class"]
    done = subprocess.run(command, capture_output=True, encoding="cp1252")
    assert done.returncode == 0, done.stderr
    assert "GAN folder:" in done.stdout
    assert ", ?: " in done.stdout


def test_a_reader_who_has_seen_enough_gets_no_traceback(results):
    for i in range(300):
        (results / "runs" / f"gan-{i:012}").mkdir(parents=True)
    runs = subprocess.Popen([*COMMAND, "runs"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    runs.stdout.close()
    assert (runs.stderr.read(), runs.wait()) == (b"", 0)
