"""The registry of published studies: every row of the tables is a study's, and what is asked wrongly is refused."""

import re
import shutil

import pandas as pd
import pytest

from rag_lib import study
from rag_lib.analysis import answers, published
from rag_lib.analysis.published import Study, registry
from rag_lib.base import UserError
from rag_lib.classifiers import train as classifiers
from rag_lib.cli import main
from rag_lib.runtime.store import finished
from rag_lib.study import conduct, designs, engines, scheduler


@pytest.mark.parametrize(("kind", "rows"), [("classifier", 1_304), ("quality", 153)])
def test_every_published_row_belongs_to_a_study(kind, rows, published_results):
    ids = {id for of_study in registry().values() for id in of_study.ids[kind]}
    table = set(published.table(conduct.TABLES[kind])["run_id"])
    assert len(table) >= rows
    assert table <= ids


def test_only_what_the_registry_says_is_missing(published_results):
    assert {name: of.missing for name, of in registry().items() if of.missing} == {
        "cifar10_few": 165,
        "fp32": 1,
        "paper": 15,
        "paper_resnets": 6,
        "relabelled": 35,
        "search": 90,
        "ten_centred": 30,
    }


def test_published_rows_have_their_provenance(published_results):
    rows, provenance = (published.table(name) for name in ("classify", "classify_provenance"))
    assert list(rows["run_id"]) == list(provenance["run_id"])
    recorded = ["commit", "torch", "torchvision", "device", "threads", "precision", "seconds"]
    assert provenance[recorded].notna().all(axis=None)
    assert not provenance["commit"].str.contains("changes|unknown").any()


def test_the_studies_can_be_computed_as_they_are_published():
    """What `make study NAME=...` computes has the published runs' names."""
    for of in registry().values():
        if not of.settings[0].dataset.startswith("folder:"):
            assert list(of.levels(study.settings_for).values()) == list(of.levels().values())


X = "[x]\nquestion = 'Q?'\nasked = 'First.'\ndesign = "
CLASSIFY = f"{X}'classify'\narms = ['original', 'mixed']\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[x", "is no TOML"),
        ("x = 3", "3 must be a table"),
        ("[x]\nquestion = 'Q?'", "must be a table with question, asked, design"),
        ("[x]\ndesign = 'classify'\nquestion = ''\nasked = 'a'", "question is missing"),
        ("[x]\ndesign = 'classify'\nquestion = 3\nasked = 'a'", "question = 3 is int; it must be str"),
        (f"{X}'classifi'", "design = 'classifi' is unknown; did you mean classify? choose one of classify, low-data"),
        (f"{X}'low-data'", "n_real is missing"),
        (f"{X}'ablation'", "factors is missing"),
        (f"{X}'classify'\nreplicats = 5", "key = 'replicats' is unknown; did you mean replicates?"),
        (f"{X}'low-data'\nn_real = [50]\nfactors = []", "key = 'factors' is unknown"),
        (f"{CLASSIFY}compare = ['mixed', 'original']", "compare = ['mixed', 'original'] is list; it must be dict"),
        (f"{CLASSIFY}[x.compare]\nz = ['mixd', 'original']", "arm = 'mixd' is unknown; did you mean mixed?"),
        (f"{CLASSIFY}[x.compare]\nz = ['mixed_add', 'original']", "arm = 'mixed_add' is unknown"),
        (f"{CLASSIFY}[x.compare]\nz = ['y/mixed', 'original']", "study = 'y' is unknown; choose one of x"),
        (f"{CLASSIFY}[x.compare]\nz = ['mixed', 'mixed']", "must be two arms"),
        (f"{CLASSIFY}[x.compare]\nz = ['mixed', 'original', 'mixed']", "must be two arms"),
        (f"{CLASSIFY}[x.compare]\nz = 'mixed'", "must be two arms"),
        (f"{CLASSIFY}[x.compare]\nz = [1, 2]", "must be two arms"),
    ],
)
def test_a_wrong_entry_is_refused_in_one_line(text, message, tmp_path):
    path = tmp_path / "studies.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"\A.*{re.escape(message)}.*\Z"):
        registry(path)


def test_a_wrong_value_is_refused_with_its_study():
    with pytest.raises(UserError, match=r"\[x\] in .*studies.toml: dataset = 'mnits' is unknown"):
        Study("x", "?", "", "classify", parameters={"dataset": "mnits"}).levels()


@pytest.mark.parametrize("studies", ["longer", [3]], ids=str)
def test_the_report_refuses_what_is_no_list_of_studies(studies):
    with pytest.raises(UserError, match="must be a list"):
        answers.select(studies)


def test_a_study_is_computed_by_its_name_and_read_in_its_order(results, monkeypatch, capsys):
    """Two levels of an ablation at preset smoke: nothing is there, then half of it, then all."""
    given = {"preset": "smoke", "factors": ["output"], "replicates": 2}

    def tiny() -> Study:
        return Study("tiny", "?", "", "ablation", parameters=given)

    monkeypatch.setattr(published, "registry", lambda: {"tiny": tiny()})
    assert (len(tiny().rows), len(tiny().quality), tiny().missing) == (0, 0, 8)
    study.run([designs.ablation(**given)["output", "S * X"]])
    assert tiny().rows[["level", "replicate"]].to_numpy().tolist() == [["S * X", 0], ["S * X", 1]]
    assert "4 more runs are not published" in published.how(tiny())
    assert main(["study", "tiny", "--dry-run"]) == 0
    assert "14 runs, 6 of them to be computed" in capsys.readouterr().out
    assert main(["study", "tiny"]) == 0
    assert "output, **S * X** against S * X + X" in capsys.readouterr().out
    assert (len(tiny().rows), tiny().missing) == (4, 0)


def test_a_study_tells_what_its_classifiers_were_on_the_way_and_how_its_gans_did(results, monkeypatch):
    monkeypatch.setattr(classifiers, "MILESTONES", (4, 8))
    monkeypatch.setattr(scheduler, "engine_of", lambda *_: engines.Engine())  # a worker would not know these milestones
    given = {"preset": "smoke", "arms": ["original", "mixed"]}
    study.run([study.settings_for(**given)])
    of = Study("x", "?", "", "classify", parameters=given)
    assert of.on_the_way[["arm", "step"]].to_numpy().tolist() == [[a, n] for a in given["arms"] for n in (4, 8)]
    last = of.on_the_way.query("step == 8").set_index("run_id")["test_accuracy"]
    assert last.to_dict() == of.rows.set_index("run_id")["test_accuracy"].to_dict()
    whole = finished(*of.quality["gan_run"]).history()
    assert of.gan_history["loss_d"].tolist() == pytest.approx(whole["loss_d"].tolist(), abs=1e-4)
    assert len(whole) == 8
    assert len(published.study("longer").on_the_way) == len(published.study("longer").gan_history) == 0


def test_an_older_copy_of_the_results_lacks_a_table(committed, results):
    shutil.copytree(committed, results)
    (results / "tables" / "milestones.csv").unlink()
    assert published.study("paper").on_the_way.empty


def test_published_numbers_depend_on_no_environment(results, committed, monkeypatch):
    """Not on RAG_SMOKE, nor on an own results folder, even where that has the same runs with other results."""
    before = answers.published_answer()
    monkeypatch.setenv("RAG_SMOKE", "1")
    study.run([study.settings_for(arms=["original"])])
    own = pd.read_csv(committed / "tables" / "classify.csv").assign(test_accuracy=10.0)
    own.to_csv(results / "tables" / "classify.csv", index=False)
    assert answers.published_answer() == before


def test_a_claim_that_the_tables_bear_no_longer_is_named(committed, results):
    shutil.copytree(committed, results)
    path = results / "tables" / "classify.csv"
    rows = pd.read_csv(path)
    rows.loc[(rows["arm"] == "mixed") & (rows["classifier.steps"] == 10_000), "test_accuracy"] += 1
    rows.to_csv(path, index=False)
    with pytest.raises(UserError, match="no longer show that replacing half hurts"):
        answers.published_answer()


def test_a_run_that_resumed_in_another_commit_counts_for_both(results):
    """Regression: the report listed the pair of a resumed run as a third commit."""
    given = {"preset": "smoke", "arms": ["original", "original_plain"]}
    study.run([study.settings_for(**given)])
    path = results / "tables" / "classify_provenance.csv"
    rows = pd.read_csv(path)
    first, second = "a" * 40, "b" * 40
    rows.assign(commit=[f"{first}, then {second}", second]).to_csv(path, index=False)
    assert published.how(Study("x", "?", "", "classify", parameters=given)).endswith("; commits aaaaaaa, bbbbbbb")
