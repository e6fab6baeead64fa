"""`python -m rag_lib`: the same studies, and one line for what the user can mend."""

import subprocess
import sys

import pandas as pd
import pytest

from rag_lib.__main__ import main
from rag_lib.paths import ROOT


def test_train_gallery_and_classify_share_their_runs(results, capsys):
    assert main(["train", "--preset", "smoke"]) == 0
    assert "trained: " in capsys.readouterr().out
    assert main(["gallery", "--preset", "smoke"]) == 0
    assert (results / "figures" / "gallery-mnist5k-smoke.png").exists()
    assert main(["train", "--preset", "smoke"]) == 0
    assert "reused: " in capsys.readouterr().out
    assert main(["classify", "--preset", "smoke"]) == 0
    printed = capsys.readouterr().out
    assert "generated  original  mixed" in " ".join(printed.split()).replace(" ", "  ")
    assert len(pd.read_csv(results / "tables" / "classify.csv")) == 3


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
    assert main(["runs", "--clean"]) == 0
    printed = capsys.readouterr().out
    assert "removed gan-000000000000" in printed
    assert printed.strip().endswith("mnist5k 8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "mnits"], "dataset = 'mnits' is unknown; choose one of mnist5k, "),
        (["--dataset", "../../etc"], "dataset = '../../etc' is unknown"),
        (["--dataset", "folder:no/such/place"], "no/such/place does not exist"),
        (["--preset", "fast"], "preset = 'fast' is unknown; choose one of paper, quick, smoke"),
        (["--seed", "-1"], "seed = -1 is out of range; it must be at least 0"),
        (["--gan-steps", "0"], "steps = 0 is out of range"),
        (["--set", "gan.step=5"], "override 'gan.step' is unknown; allowed: "),
        (["--set", "gan.steps"], "--set 'gan.steps' must be FIELD=VALUE"),
        (["--set", "gan.steps=ten"], "steps = 'ten' is str; it must be int"),
        (["--set", "data.contrast=false"], "contrast = 'false' is str; it must be bool"),
        (["--set", "classifiers={'cnnn': 1}"], "classifier = 'cnnn' is unknown; choose one of cnn, "),
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
