"""Run folders: content-addressed, atomic, never computed twice, never outside results/runs."""

import json
import subprocess
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import cached, refused, write

from rag_lib.analysis.published import table
from rag_lib.runtime import provenance, store
from rag_lib.runtime.store import Run, names_itself, run_folder, run_id, write_json
from rag_lib.runtime.tables import clean_runs, collect, list_runs
from rag_lib.settings.config import NUMERICS, ClassifierConfig, DataConfig, GanConfig, as_dict

CONFIG = GanConfig()


def left(folder):
    """What a training leaves at least."""
    (folder / "generator.safetensors").touch()
    return {"a": 1}


def test_a_finished_run_is_never_computed_again(results):
    calls = []

    def compute(folder):
        calls.append(folder)
        return left(folder)

    first, second = cached("gan", CONFIG, compute), cached("gan", CONFIG, compute)
    assert calls == [results / "runs" / first.id]
    assert (first.metrics, first.reused) == ({"a": 1}, False)
    assert (second.metrics, second.reused) == ({"a": 1}, True)
    assert json.loads((first.folder / "config.json").read_text())["data"]["dataset"] == "mnist5k"


def test_a_run_names_the_commit_and_whether_the_code_differs_from_it(tmp_path, monkeypatch):
    def git(*words: str) -> str:
        of = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@x", *words]
        return subprocess.run(of, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.delenv("RAG_COMMIT", raising=False)
    monkeypatch.setattr(provenance, "ROOT", write(tmp_path, {"rag_lib/a.py": b"1", "below/it": b""}))
    git("init")
    git("add", ".")
    git("commit", "-m", "x")
    assert provenance.commit_of_code() == git("rev-parse", "HEAD")
    (tmp_path / "rag_lib" / "a.py").write_text("2")
    assert provenance.commit_of_code() == git("rev-parse", "HEAD") + "+changes"
    # regression: installed in a folder of another repository, it named that one's commit
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "below")
    assert provenance.commit_of_code() == "unknown"


def test_every_field_that_changes_numbers_names_another_run():
    changes = [{}, {"seed": 1}, {"precision": "fp32"}, {"lr": 2e-4}]
    changes += [
        {"data": data} for data in (DataConfig(rotation=5.0), DataConfig(dataset="mnist"), DataConfig(n_real=50))
    ]
    for kind, config in (("gan", CONFIG), ("classifier", ClassifierConfig())):
        assert len({run_id(kind, replace(config, **change)) for change in changes}) == len(changes)
        assert run_id(kind, replace(config, lr=1)) == run_id(kind, replace(config, lr=1.0))


def test_the_id_of_the_defaults_is_pinned_and_another_of_other_numerics(monkeypatch):
    """Ids must not change by accident: published tables are keyed by them."""
    assert run_id("gan", CONFIG) == "gan-81b9f93b5900"
    monkeypatch.setattr(store, "NUMERICS", NUMERICS + 1)
    assert run_id("gan", CONFIG) != "gan-81b9f93b5900"


@pytest.mark.parametrize("name", ["..", ".", "", "../other", "/etc", "a/../../b", "runs/x"])
def test_a_name_that_leads_out_of_the_results_is_refused(name):
    with refused("is not the name of a run"):
        run_folder(name)


def test_runs_are_listed_with_their_state_and_only_finished_ones_stay(results):
    """A run of an older version is stale: one that lacked fields, or had others."""
    run = cached("gan", CONFIG, left)
    with pytest.raises(ZeroDivisionError):
        cached("gan", replace(CONFIG, seed=1), lambda folder: 1 / 0)
    lacking = {name: value for name, value in as_dict(CONFIG).items() if name != "ema"}
    for i, config in enumerate((lacking, {"other": 3})):
        stale = write(results / "runs" / f"gan-{i:012}", {})
        write_json(stale / "config.json", config)
        write_json(stale / "metrics.json", {})
    states = list_runs().set_index("run")["state"]
    assert sorted(states) == ["finished", "stale", "stale", "unfinished"]
    assert states[["gan-000000000000", "gan-000000000001", run.id]].tolist() == ["stale", "stale", "finished"]
    assert len(clean_runs()) == 3
    assert list(list_runs()["run"]) == [run.id]


def test_tables_merge_by_run_id_and_keep_what_others_computed(results):
    def run(name):
        return Run(name, cached("gan", CONFIG, left).folder, {}, reused=False)

    def rows(**accuracies):
        return pd.DataFrame({"run_id": accuracies.keys(), "accuracy": accuracies.values()})

    collect("t", rows(b=1.0, c=2.0), [run("b"), run("c")])
    path = collect("t", rows(a=3.0, b=4.0), [run("a"), run("b")])
    table = pd.read_csv(path)
    assert dict(zip(table["run_id"], table["accuracy"], strict=True)) == {"a": 3.0, "b": 4.0, "c": 2.0}
    assert list(table["run_id"]) == ["a", "b", "c"]
    before = path.read_text().splitlines()
    collect("t", rows(d=5.0), [run("d")])
    assert path.read_text().splitlines()[:-1] == before
    provenance = pd.read_csv(results / "tables" / "t_provenance.csv")
    assert list(provenance["run_id"]) == ["a", "b", "c", "d"]
    assert {"commit", "torch", "device", "threads", "seconds"} <= set(provenance)


@pytest.mark.parametrize(
    "content", [b"", b"run_id;accuracy\na;97,5\n", b"name\n", b"run_id,a\nx,1,2\n", "run_id\n".encode("utf-16")]
)
def test_a_table_that_a_spreadsheet_has_saved_is_named_with_the_way_back(content, results):
    path = results / "tables" / "classify.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    run = cached("gan", CONFIG, left)
    for use in (lambda: collect("classify", pd.DataFrame([{"run_id": run.id}]), [run]), lambda: table("classify")):
        with refused("classify.csv is no table with commas", "git checkout"):
            use()
    assert path.read_bytes() == content


@pytest.mark.parametrize("allocate", [torch.empty, np.empty])
def test_memory_that_runs_out_is_one_line_that_says_what_to_make_smaller(allocate):
    with refused("gan-", "memory ran out; make batch_size, ", " smaller"):
        cached("gan", CONFIG, lambda folder: allocate(2**59))


def test_a_field_added_later_leaves_the_names_of_published_runs_alone():
    """The id of a default is pinned above; what a saved config lacks is read as the default."""
    added = {f.name for f in fields(CONFIG) if f.metadata.get("added")}
    saved = {name: value for name, value in as_dict(CONFIG).items() if name not in added}
    assert names_itself(run_id("gan", CONFIG), saved)
    assert names_itself(run_id("gan", CONFIG), saved | {"pretrained": ""})  # a field that is gone
    assert run_id("gan", replace(CONFIG, residual=False)) != run_id("gan", CONFIG)


def test_the_defaults_of_added_fields_are_what_the_code_did_before_them():
    """They must never change: the name of a run without them stands for these."""
    added = {
        f"{cls.__name__}.{f.name}": f.default
        for cls in (DataConfig, GanConfig, ClassifierConfig)
        for f in fields(cls)
        if f.metadata.get("added")
    }
    assert added == {
        "DataConfig.n_real": 0,
        "DataConfig.translation": 0,
        "DataConfig.flip": False,
        "GanConfig.labels": "conditional",
        "GanConfig.labeller": None,
        "GanConfig.only_class": -1,
        "GanConfig.residual": True,
        "GanConfig.oversample": False,
        "GanConfig.g_norm": "batch",
        "GanConfig.r1": 0.0,
        "GanConfig.diff_augment": False,
        "GanConfig.d_lr_factor": 1.0,
        "ClassifierConfig.share": 0.5,
        "ClassifierConfig.times": 1,
        "ClassifierConfig.label_smoothing": 0.0,
        "ClassifierConfig.optimizer": "adam",
    }
