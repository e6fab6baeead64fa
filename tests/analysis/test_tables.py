"""What the words say is what the tables say."""

import re
from types import SimpleNamespace

import pandas as pd
import pytest

from rag_lib.analysis import answers, paper, tables, words
from rag_lib.analysis.statistics import contrasts
from rag_lib.runtime.store import Run
from rag_lib.settings.arms import arm_order
from rag_lib.study.resolve import resolve


def table(values: dict[str, list[float]], replicates: int = 1, classifier: str = "cnn") -> pd.DataFrame:
    """Two classifier seeds an arm, in every replicate the same values a little higher."""
    rows = [
        {"arm": arm, "replicate": r, "seed": seed, "test_accuracy": v + 0.01 * r * (seed + 1)}
        for arm, pair in values.items()
        for r in range(replicates)
        for seed, v in enumerate(pair)
    ]
    whole = {"classifier": classifier, "dataset": "mnist", "data.n_real": 600, "test_images": 10_000}
    return pd.DataFrame(rows).assign(**whole)


GROUPS = {"generated": [90.0, 92.0], "original": [98.0, 99.0], "mixed": [97.0, 97.5], "mixed:0.25": [98.0, 98.5]}


def test_summary_and_conclusion_say_what_the_table_says():
    summary = tables.summary(table(GROUPS))
    assert summary.loc["cnn"].to_dict() == {"generated": 91.0, "original": 98.5, "mixed": 97.25, "mixed:0.25": 98.25}
    text = words.conclusion(table(GROUPS))
    assert "98.50% from the original images, 91.00% (-7.50) from generated images alone, 97.25% (-1.25)" in text
    alone = words.conclusion(table({"generated": [90.0, 92.0]}))
    assert "91.00% from generated images alone" in alone
    assert "difference" not in alone


def test_all_tables_round_alike():
    """Regression: a mean of 81.595 stood as 81.60 in one table and as 81.59 in another."""
    rows = table({"original": [81.77, 81.42]})
    assert tables.summary(rows).loc["cnn", "original"] == 81.59
    assert tables.summary_with_intervals(rows).loc["cnn", "original"] == "81.59"


def test_differences_are_those_of_the_replicates_that_have_both_groups():
    """Regression: a mean over one replicate was compared with a mean over five."""
    rows = table({"original": [95.0], "mixed": [96.0]}, replicates=5)
    other = rows["replicate"] > 0
    rows.loc[other, "test_accuracy"] += 3.0
    rows = rows[(rows["arm"] == "original") | ~other]
    assert "96.00% (+1.00 over 1 of 5 replicates)" in words.conclusion(rows)
    apart = rows[(rows["arm"] == "mixed") | (rows["replicate"] > 0)]  # no replicate has both
    assert "96.00% from" in words.conclusion(apart)


@pytest.mark.parametrize(
    ("replicates", "rests_on", "original"),
    [
        (1, "rests on one generator and one draw of", "98.50"),
        (2, "rests on 2 generators and 2 draws of", "98.51"),
        (4, "a verdict wants at least 5 replicates", "98.52 (98.49 to 98.55)"),
        (5, "(the paper's claim: of half)? **hurts: -1.25 points", "98.53 (98.50 to 98.56)"),
    ],
)
def test_a_verdict_comes_with_five_replicates_and_intervals_with_three(replicates, rests_on, original):
    rows = table(GROUPS, replicates)
    assert rests_on in words.conclusion(rows)
    assert tables.summary_with_intervals(rows).loc["cnn", "original"] == original


def levels(accuracies: dict[str, list[float]]) -> pd.DataFrame:
    wide = pd.DataFrame(accuracies).rename_axis("replicate").reset_index()
    rows = wide.melt("replicate", var_name="level", value_name="test_accuracy")
    return rows.assign(**{"factor": "attention", "dataset": "mnist", "data.n_real": 0, "test_images": 10_000})


SPAM = [96.0, 96.5, 97.0, 96.2, 96.4]


@pytest.mark.parametrize(
    ("none", "said"),
    [
        ([95.0], "-1.00 points"),
        ([95.0, 95.6, 96.0], "-0.97 points (95% interval -1.11 to -0.82)"),
        ([95.0, 95.4, 95.8, 94.9, 95.0], "-1.20 points (95% interval -1.40 to -1.00): they differ"),
        (SPAM[::-1], "+0.00 points (95% interval -0.44 to +0.44): undecided"),
    ],
)
def test_the_ablation_says_what_its_replicates_allow(none, said):
    n = len(none)
    text = words.ablation_conclusion(levels({"SPAM": SPAM[:n], "none": none}))
    assert f"- attention, **none** against SPAM: {said}" in text.splitlines()
    assert ("interval" in text) == (n >= 3)
    assert ("a verdict wants at least 5 replicates" in text) == (n < 5)
    assert "against" not in words.ablation_conclusion(levels({"SE": none, "none": none}))  # without the first level


@pytest.mark.parametrize(
    ("loss", "real", "fake", "said"),
    [
        ("non_saturating", 0.55, 0.48, "both are near 0.5"),
        ("non_saturating", 0.97, 0.02, "**D wins**: it takes real images for real with 0.97"),
        ("non_saturating", 0.1, 0.9, "at the balance"),
        ("non_saturating", 0.66, 0.39, "at the balance"),
        ("hinge", 0.95, 0.1, "no probabilities"),
    ],
)
def test_the_gans_conclusion_follows_from_its_history(loss, real, fake, said, tmp_path):
    diverse = {"diversity": 0.9, "diversity_lowest": 0.7, "diversity_saved": 0.9}
    history = pd.DataFrame(
        {"step": range(1, 101), "d_real": [0.5] * 90 + [real] * 10, "d_fake": [0.5] * 90 + [fake] * 10}
    )
    history.assign(loss_d=1.0, loss_g=1.0, **diverse).to_csv(tmp_path / "history.csv", index=False)
    settings = resolve(overrides={"gan.steps": 100, "gan.loss": loss})
    text = words.gan_conclusion(settings, Run("gan-x", tmp_path, {}, reused=True))
    assert said in text
    assert f"real images {real:.2f} and generated ones {fake:.2f} on average" in text
    assert ("D wins" in text) == ("D wins" in said)
    assert "differ 0.90 times as much as real ones do, those of the least diverse 0.70 times" in text


def test_passes_say_what_the_steps_mean():
    text = words.passes(resolve(preset="quick"), n_train=3_500)
    assert text.splitlines()[0] == "cnn: 1,000 steps of 64 images, 18.3 passes over 3,500, 3 seeds"


FIVE, ADDED = table(GROUPS, 5), table({"original": [95.0] * 2, "mixed_add": [96.0] * 2, "mixed_add:10": [97.0] * 2}, 5)
UNTRIED = table(GROUPS, classifier="resnet18")
FEW = "Too few replicates for a verdict (at least 5): "


@pytest.mark.parametrize(
    ("rows", "first", "last"),
    [
        (FIVE[FIVE["arm"] != "original"], "None of the questions can be asked", "None of"),
        (FIVE, "- cnn: Do they help in place of real ones", "- cnn: Do they"),
        (FIVE.assign(**{"data.n_real": 0}), "- cnn: Do they", "The draws of the real images come from one pool"),
        (table(GROUPS, 3), "All of this rests on 3 generators and 3 draws of", "All of"),
        (pd.concat([table(GROUPS, 3), UNTRIED]), "All of this rests on at most 3 generators and 3 draws of", "All of"),
        (pd.concat([FIVE, UNTRIED]), "- cnn: Do they", f"{FEW}resnet18 (1)."),
        (  # regression: the classifier alone was named, whose other questions had their verdicts
            ADDED[(ADDED["arm"] != "mixed_add:10") | (ADDED["replicate"] < 4)],
            "- cnn: Do generated images help when they are added? **helps",
            f"{FEW}cnn, mixed_add:10 (4).",
        ),
    ],
    ids=["no question", "all answered", "of one pool", "few", "unequal", "few of a classifier", "few of an arm"],
)
def test_verdicts_begin_with_answers_and_end_with_what_limits_them(rows, first, last):
    lines = words.verdicts(rows)
    assert lines[0].startswith(first)
    assert lines[-1].startswith(last)


def test_variants_of_an_arm_stand_in_the_order_of_their_numbers():
    names = pd.Series(["mixed_add:10", "mixed_add:2", "original", "mixed_add"])
    assert arm_order(names) == ["original", "mixed_add", "mixed_add:2", "mixed_add:10"]


def test_a_class_that_a_labeller_never_sees_is_left_out(tmp_path):
    pd.DataFrame([[3, 1], [0, 0]], index=["a", "b"], columns=["a", "b"]).to_csv(tmp_path / "confusion.csv")
    metrics = {"judge_test_accuracy": 0.9, "gan_test_accuracy": 0.75}
    text = words.gallery_conclusion(Run("quality-x", tmp_path, metrics, reused=True))
    assert "from 75.0% (a) to 75.0% (a)" in text


def test_classes_of_one_size_are_told_in_a_few_words(digits):
    assert words.class_sizes(digits.val) == "50 of each class"


def test_a_caption_names_what_the_judge_sees_where_it_is_another_class():
    looked = pd.DataFrame({"asked": [0, 1], "seen": [0, 0]})
    assert tables.as_seen(looked, ("robin", "wren")) == ["robin", "wren\n→ robin"]


def ledger(**studies: pd.DataFrame) -> pd.DataFrame:
    verdicts = {name: contrasts(rows, ["classifier", "data.n_real"]) for name, rows in studies.items()}
    return answers.ledger([SimpleNamespace(name=name, verdicts=found) for name, found in verdicts.items()])


def test_the_verdicts_of_several_studies_say_what_is_left_of_them_as_one():
    """A p of 0.04 that is the only one of its study is significant there, and not beside another study's question."""
    one, worse = (
        table({"original": [0.0], "mixed": [0.0]}, 5).assign(test_accuracy=[0.0] * 5 + mixed, **{"data.n_real": 0})
        for mixed in ([1.0, 0.1, 0.6, 0.2, 1.0], [1.0, 0.1, 0.6, -0.4, -2.0])
    )
    found = ledger(one=one, worse=worse).set_index("study")
    assert 0.025 < found.loc["one", "p"] < 0.05 < found.loc["worse", "p"]
    assert found["answer"].to_dict() == {"one": "helps", "worse": "undecided"}
    assert found["answer_of_all"].to_dict() == {"one": "undecided", "worse": "undecided"}
    alone = ledger(one=one, twin=one)  # regression: the very same runs were corrected for twice
    assert alone[["study", "answer_of_all"]].to_numpy().tolist() == [["one", "helps"]]


def test_the_verdicts_of_several_studies_stand_in_one_table():
    """Only those of enough replicates; regression: a study without a question made text of the others' numbers."""
    found = ledger(five=FIVE, two=table(GROUPS, 2), none=FIVE[:0])
    assert found[["study", "arm"]].to_numpy().tolist() == [["five", "mixed"], ["five", "mixed:0.25"]]
    assert found["mean"].dtype == float
    assert (found["answer_of_all"] == found["answer"]).all()  # it is the only study
    assert ledger(none=FIVE[:0], two=table(GROUPS, 2)).empty
    assert ledger(none=FIVE[:0]).empty


def test_ours_stand_beside_the_papers_numbers():
    ours = pd.DataFrame({"generated": [1.0, 2.0], "original": [3.0, 4.0], "mixed": [5.0, 6.0]}, index=["cnn", "timm:x"])
    both = paper.beside_paper(ours)
    assert both.loc["cnn", "mixed"].to_dict() == {"ours": 5.0, "paper": 98.36}
    assert both.loc["timm:x", "mixed"].isna().to_dict() == {"ours": False, "paper": True}


def test_what_contradicts_the_paper_is_counted():
    cnn = table({"generated": [90.0], "original": [99.0], "mixed": [98.5], "mixed_add": [99.1]})
    rows = pd.concat([cnn, cnn.assign(classifier="resnet34", test_accuracy=cnn["test_accuracy"] + 1)])
    rows["own_test_accuracy"] = [99.5, 99.0, 99.25, 99.1, 99.5, 100.0, 100.25, 100.1]
    assert paper.against_paper(rows[rows["arm"] != "mixed_add"]).startswith("This wants a classifier with")
    text = paper.against_paper(rows)
    claim = ["2 of 2", "+0.52", "+0.93", "0 of 2", "-0.50"]  # in the paper, and here
    control, original = ["2 of 2", "+0.10"], ["99.00", "100.00", "97.84", "98.02"]
    on_own_kind = ["2 of 2", "+0.25", "99.50", "90.00", "91.00", "1 of 2", "0 of 2"]
    assert re.findall(r"\d of \d|[+-]?\d+\.\d\d", text) == claim + control + original + on_own_kind
    more = pd.concat([rows, rows.query("arm == 'original'").assign(replicate=1, test_accuracy=50.0)])
    assert paper.against_paper(more) == text  # a replicate that lacks groups is left out
