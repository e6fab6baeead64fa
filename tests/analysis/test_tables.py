"""What the words say is what the tables say."""

import re

import pandas as pd
import pytest
import torch

from rag_lib.analysis import answers, paper, tables, words
from rag_lib.analysis.statistics import contrasts
from rag_lib.data.images import Images
from rag_lib.runtime.store import Run
from rag_lib.settings.arms import arm_order
from rag_lib.study.resolve import resolve


def table(values: dict[str, list[float]], replicates: int = 1) -> pd.DataFrame:
    """Two classifier seeds an arm, in every replicate the same values a little higher."""
    return pd.DataFrame(
        [
            {"classifier": "cnn", "arm": arm, "replicate": r, "seed": seed, "test_accuracy": v + 0.01 * r * (seed + 1)}
            | {"dataset": "mnist", "data.n_real": 600}
            for arm, pair in values.items()
            for r in range(replicates)
            for seed, v in enumerate(pair)
        ]
    )


GROUPS = {"generated": [90.0, 92.0], "original": [98.0, 99.0], "mixed": [97.0, 97.5], "mixed:0.25": [98.0, 98.5]}


def test_summary_and_conclusion_say_what_the_table_says():
    summary = tables.summary(table(GROUPS))
    assert summary.loc["cnn"].to_dict() == {"generated": 91.0, "original": 98.5, "mixed": 97.25, "mixed:0.25": 98.25}
    text = words.conclusion(table(GROUPS))
    assert "98.50% from the original images, 91.00% (-7.50) from generated images alone, 97.25% (-1.25)" in text
    assert "one generator and one draw of the real images" in text


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


def test_a_verdict_comes_with_five_replicates_and_the_intervals_with_three():
    assert "at least 5 replicates" in words.conclusion(table(GROUPS, replicates=4))
    text = words.conclusion(table(GROUPS, replicates=5))
    assert "cnn: Do they help in place of real ones (the paper's claim: of half)? **hurts: -1.25 points" in text
    (row,) = tables.summary_with_intervals(table(GROUPS, replicates=3)).to_dict("records")
    assert row["original"].startswith("98.52 (")
    (row,) = tables.summary_with_intervals(table(GROUPS, replicates=2)).to_dict("records")
    assert row["original"] == "98.51"


def test_a_comparison_without_the_original_images_has_no_differences():
    text = words.conclusion(table({"generated": [90.0, 92.0]}))
    assert "91.00% from generated images alone" in text
    assert "difference" not in text


def levels(accuracies: dict[str, list[float]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = [
        {"factor": "attention", "level": level, "replicate": r, "test_accuracy": v}
        for level, values in accuracies.items()
        for r, v in enumerate(values)
    ]
    runs = pd.DataFrame(rows).assign(**{"dataset": "mnist", "data.n_real": 0})
    return runs, runs.assign(gan_test_accuracy=97.0, frechet_distance=12.345, parameters_g=1_234_567)


def test_the_ablation_names_what_its_intervals_allow():
    runs, quality = levels({"SPAM": [96.0, 96.5, 97.0], "none": [95.0, 95.6, 96.0], "SE": [95.0, 97.5, 97.0]})
    shown = tables.level_table(runs, quality)
    assert shown.loc[("attention", "SPAM"), "accuracy (%)"] == "96.50"
    assert shown.loc[("attention", "none"), "parameters of G"] == "1,234,567"
    text = words.ablation_conclusion(runs)
    assert "attention, **none** against SPAM: -0.97 points (95% interval -1.11 to -0.82)" in text
    assert "**SE** against SPAM: +0.00 points" in text
    assert "a verdict wants at least 5 replicates" in text


def test_the_ablation_gives_its_verdicts_with_five_replicates():
    spam = [96.0, 96.5, 97.0, 96.2, 96.4]
    runs, _ = levels({"SPAM": spam, "none": [v - 1 - 0.1 * i for i, v in enumerate(spam)], "SE": spam[::-1]})
    text = words.ablation_conclusion(runs)
    assert re.search(r"\*\*none\*\* against SPAM: -1.20 points .*: they differ$", text, flags=re.M)
    assert re.search(r"\*\*SE\*\* against SPAM: .*: undecided$", text, flags=re.M)
    assert "a verdict wants" not in text


@pytest.mark.parametrize(
    ("real", "fake", "said"),
    [
        (0.55, 0.48, "both are near 0.5"),
        (0.97, 0.02, "**D wins**: it takes real images for real with 0.97"),
        (0.1, 0.9, "at the balance"),
        (0.66, 0.39, "at the balance"),
    ],
)
def test_the_gans_conclusion_follows_from_its_history(real, fake, said, tmp_path):
    steps = range(1, 101)
    history = pd.DataFrame({"step": steps, "d_real": [0.5] * 90 + [real] * 10, "d_fake": [0.5] * 90 + [fake] * 10})
    history = history.assign(loss_d=1.0, loss_g=1.0)
    history.to_csv(tmp_path / "history.csv", index=False)
    text = words.gan_conclusion(resolve(overrides={"gan.steps": 100}), Run("gan-x", tmp_path, {}, reused=True))
    assert said in text
    assert f"real images {real:.2f} and generated ones {fake:.2f} on average" in text
    assert ("D wins" in text) == (real - fake > 0.8)


def test_passes_say_what_the_steps_mean():
    text = words.passes(resolve(preset="quick"), n_train=3_500)
    assert text.splitlines()[0] == "cnn: 1,000 steps of 64 images, 18.3 passes over 3,500, 3 seeds"


def test_an_ablation_of_one_replicate_speaks_of_no_intervals():
    runs, _ = levels({"SPAM": [96.0], "none": [95.0]})
    text = words.ablation_conclusion(runs)
    assert text.startswith("Paired differences over 1 replicate. They describe these runs; a verdict wants at least 5")
    assert "interval" not in text


def test_an_ablation_without_its_first_level_compares_with_nothing_else():
    runs, _ = levels({"SE": [95.0, 97.5], "none": [95.0, 95.6]})
    assert "against" not in words.ablation_conclusion(runs)


def test_verdicts_say_when_nothing_can_be_asked_and_when_draws_overlap():
    five = table({"generated": [90.0, 92.0], "mixed": [97.0, 97.5]}, replicates=5)
    assert words.verdicts(five)[0].startswith("None of the questions")
    whole = table(GROUPS, replicates=5).assign(**{"data.n_real": 0})
    assert "share most of it" in words.verdicts(whole)[-1]
    assert "share most of it" not in words.verdicts(table(GROUPS, replicates=5))[-1]


def test_a_question_with_too_few_replicates_is_named_beside_those_that_are_answered():
    """Regression: the classifier alone was named, whose other questions had their verdicts."""
    rows = table({"original": [95.0, 95.1], "mixed_add": [96.0, 96.1], "mixed_add:10": [97.0, 97.1]}, replicates=5)
    rows = rows[(rows["arm"] != "mixed_add:10") | (rows["replicate"] < 4)]
    lines = words.verdicts(rows)
    assert lines[0].startswith("- cnn: Do generated images help when they are added? **helps")
    assert lines[2].endswith(": cnn, mixed_add:10 (4).")


def test_variants_of_an_arm_stand_in_the_order_of_their_numbers():
    names = pd.Series(["mixed_add:10", "mixed_add:2", "original", "mixed_add"])
    assert arm_order(names) == ["original", "mixed_add", "mixed_add:2", "mixed_add:10"]


def test_classifiers_with_unequal_replicates_are_not_said_to_rest_on_as_many():
    rows = pd.concat([table(GROUPS, replicates=3), table(GROUPS).assign(classifier="resnet18")])
    assert "rests on at most 3 generators and 3 draws of" in words.verdicts(rows)[0]
    assert "rests on 3 generators and 3 draws of" in words.verdicts(table(GROUPS, replicates=3))[0]


def test_those_with_too_few_replicates_are_named_in_one_line_behind_the_verdicts():
    rows = pd.concat([table(GROUPS, replicates=5), table(GROUPS).assign(classifier="resnet18")])
    *judged, gap, few = [line for line in words.verdicts(rows) if "share most of it" not in line]
    assert all(line.startswith("- cnn: ") for line in judged)
    assert (gap, few) == ("", "Too few replicates for a verdict (at least 5): resnet18 (1).")


def test_a_class_that_a_labeller_never_sees_is_left_out(tmp_path):
    pd.DataFrame([[3, 1], [0, 0]], index=["a", "b"], columns=["a", "b"]).to_csv(tmp_path / "confusion.csv")
    metrics = {"judge_test_accuracy": 0.9, "gan_test_accuracy": 0.75}
    text = words.gallery_conclusion(Run("quality-x", tmp_path, metrics, reused=True))
    assert "from 75.0% (a) to 75.0% (a)" in text


def test_the_hinge_loss_is_not_reported_as_probabilities(tmp_path):
    history = pd.DataFrame({"step": range(1, 21), "d_real": 0.95, "d_fake": 0.1, "loss_d": 1.0, "loss_g": 1.0})
    history.to_csv(tmp_path / "history.csv")
    settings = resolve(overrides={"gan.loss": "hinge"})
    text = words.gan_conclusion(settings, Run("gan-x", tmp_path, {}, reused=True))
    assert "D wins" not in text
    assert "no probabilities" in text


def test_the_sizes_of_classes_are_told_in_a_few_words():
    def images(*counts: int) -> Images:
        y = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        return Images(torch.zeros(len(y), 1, 28, 28, dtype=torch.uint8), y, ("robin", "wren", "零")[: len(counts)])

    assert words.class_sizes(images(5, 5)) == "5 of each class"
    assert words.class_sizes(images(1_200, 40, 3)) == "from 3 of 零 to 1,200 of robin"


def test_a_caption_names_what_the_judge_sees_where_it_is_another_class():
    looked = pd.DataFrame({"asked": [0, 1], "seen": [0, 0]})
    assert tables.as_seen(looked, ("robin", "wren")) == ["robin", "wren\n→ robin"]


def asked(rows: pd.DataFrame) -> pd.DataFrame:
    return contrasts(rows, ["classifier", "data.n_real"])


def test_the_verdicts_of_several_studies_say_what_is_left_of_them_as_one_study():
    """A p of 0.04 that is the only one of its study is significant there, and not beside another study's question."""
    values = {"original": [0.0] * 5, "mixed": [1.0, 0.1, 0.6, 0.2, 1.0]}
    rows = [{"arm": arm, "replicate": r, "test_accuracy": v} for arm in values for r, v in enumerate(values[arm])]
    one = pd.DataFrame(rows).assign(**{"classifier": "cnn", "dataset": "mnist", "data.n_real": 0})
    worse = one.assign(test_accuracy=one["test_accuracy"] * [*[1.0] * 8, -2.0, -2.0])
    found = answers.verdict_table({"one": asked(one), "worse": asked(worse)}).set_index("study")
    assert 0.025 < found.loc["one", "p"] < 0.05 < found.loc["worse", "p"]
    assert found["answer"].to_dict() == {"one": "helps", "worse": "undecided"}
    assert found["answer_of_all"].to_dict() == {"one": "undecided", "worse": "undecided"}


def test_the_verdicts_of_several_studies_stand_in_one_table():
    """Only those of enough replicates; regression: a study without a question made text of the others' numbers."""
    studies = {"five": asked(table(GROUPS, replicates=5)), "two": asked(table(GROUPS, replicates=2))}
    studies |= {"none": asked(table(GROUPS)[:0]), "alone": asked(table({"original": [95.0]}, replicates=5))}
    found = answers.verdict_table(studies)
    assert set(found["study"]) == {"five"}
    assert set(found["arm"]) == {"mixed", "mixed:0.25"}
    assert found["mean"].dtype == float
    assert (found["answer_of_all"] == found["answer"]).all()  # it is the only study
    assert answers.verdict_table({"none": studies["none"], "two": studies["two"]}).empty
    assert answers.verdict_table({}).empty


def test_what_contradicts_the_paper_is_counted():
    means = {"generated": 90.0, "original": 99.0, "mixed": 98.5, "mixed_add": 99.1}
    rows = pd.DataFrame(
        [
            {"classifier": classifier, "arm": arm, "replicate": 0, "seed": 0, "test_accuracy": value + i}
            | {"own_test_accuracy": {"generated": 99.5, "mixed": 99.25 + i}.get(arm, value + i)}
            for i, classifier in enumerate(("cnn", "resnet34"))
            for arm, value in means.items()
        ]
    )
    assert paper.against_paper(rows[rows["arm"] != "mixed_add"]).startswith("This wants a classifier with")
    text = paper.against_paper(rows)
    assert "In its Table 1 it lies above with 2 of 2 classifiers, by +0.52 to +0.93 points" in text
    assert "Here it does with 0 of 2 classifiers: the differences are -0.50." in text
    assert "lies above `original` with 2 of 2 classifiers: +0.10 points" in text
    assert "`original`, reach 99.00 to 100.00% here and 97.84 to 98.02% in the paper;" in text
    assert "`mixed` above `original` with 2 of 2 classifiers (+0.25 points), and `generated` at 99.50% instead" in text
    assert "above `original` with 1 of 2 classifiers, where in the paper it lies above with 0 of 2 classifiers." in text
    more = pd.concat([rows, rows.query("arm == 'original'").assign(replicate=1, test_accuracy=50.0)])
    assert paper.against_paper(more) == paper.against_paper(rows)  # a replicate that lacks groups is left out


def test_generators_of_different_schedules_stand_in_rows_of_their_own():
    names = "gan_test_accuracy judge_test_accuracy images_compared frechet_distance val_frechet_distance precision"
    names += " val_precision recall val_recall density val_density coverage val_coverage duplicate_rate"
    row = dict.fromkeys([*names.split(), "duplicate_rate_unseen"], 0.5) | {"dataset": "mnist", "data.n_real": 0}
    rows = [
        row | {"gan.steps": steps, "gan_test_accuracy": a} for steps, a in ((2_500, 97), (10_000, 99), (10_000, 98))
    ]
    found = tables.quality_table(pd.DataFrame(rows))
    assert found["iterations"].tolist() == ["2,500", "10,000"]
    assert found["generators"].tolist() == [1, 2]
    assert found["GAN-test (%)"].tolist() == ["97.00 (0.50)", "98.50 (0.50)"]
