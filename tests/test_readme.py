"""What the README promises: its code runs, its links lead somewhere, its table is the published one."""

import re
from typing import Any

import nbformat
import pandas as pd
import pytest
import torch
import torchvision
from committed import parameters_of

from rag_lib import data, jobs, plans, report, study
from rag_lib.__main__ import main
from rag_lib.config import PAPER_CLASSIFIERS, STUDY_ARMS, Settings
from rag_lib.paper import BEST_OF_TABLE_2, TABLE_1
from rag_lib.paths import ROOT
from rag_lib.presets import resolve
from rag_lib.runs import Run, run_id
from rag_lib.statistics import contrasts, holm, intervals

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)


def block(word: str, generator: Run | None = None) -> str:
    """The README's Python code with this word in it, with a run of the test's own in place of the README's."""
    (code,) = [code for code in BLOCKS if word in code]
    return re.sub(r'load_generator\("[^"]+"\)', f"load_generator({str(generator and generator.folder)!r})", code)


def test_the_lines_for_ones_own_training_code_run(digits):
    run = study.run_gan(resolve(preset="smoke"), digits)
    real = [(torch.rand(1, 28, 28), 3)] * 100  # as torchvision's datasets are: labels are ints
    names = {"your_dataset": real, "your_transform": torchvision.transforms.ToTensor()}
    exec(block("DataLoader", run), names)
    x, y = next(iter(names["loader"]))
    assert len(names["loader"].dataset) == 10_100
    assert x.shape == (64, 1, 28, 28)
    assert 0 <= x.min() < x.max() <= 1
    assert y.dtype == torch.int64
    exec(block("sample(", run), names)
    assert names["images"].shape == (3, 1, 28, 28)


def test_the_example_of_own_images_runs_from_its_code_to_its_export(tmp_path, results, monkeypatch, capsys):
    """With its own commands, at preset smoke."""
    monkeypatch.chdir(tmp_path)
    exec(block("numerals"))
    commands = re.search(r"numerals\.py\nmake study (.*?)\n\S+ -m rag_lib (export .*?)\n", TEXT, flags=re.S)
    dataset, _, arguments = re.search(r'DATASET=(\S+) PRESET=(\S+) .*?ARGS="(.*?)"', commands[1], flags=re.S).groups()
    parameters = ["--dataset", dataset, *arguments.split()]
    assert main(["train", *parameters[:6], "--preset", "smoke"]) == 0
    settings = study.settings_for(dataset.replace("data", f"{tmp_path}/data"), "smoke", overrides={"data.channels": 1})
    assert report.class_sizes(data.load(settings.data).train) == "from 18 of eight to 360 of four"
    assert main(["classify", *parameters, "--preset", "smoke"]) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^(balanced|original|oversampled)  ", printed, flags=re.M) == [
        "original",
        "balanced",
        "oversampled",
    ]
    (gan,) = (results / "runs").glob("gan-*")
    export = re.sub(r"gan-\w+", gan.name, commands[2])
    assert main(export.split()) == 0
    assert len(list((tmp_path / "data" / "more_numerals").rglob("*.png"))) == 4_000


def test_the_examples_numbers_are_those_of_the_published_tables(published):
    table, quality = (t[t["dataset"] == "folder:numerals"] for t in map(published, ("classify", "quality")))
    without = table["gan.oversample"].astype(str) == "False"
    named = table.assign(arm=table["arm"].where(~without, "balanced, without"))
    rows = report.interval_table(named, ["arm"])
    assert len(rows) == 4
    for arm, row in rows.iterrows():
        name = "`balanced`, without `gan.oversample`" if "without" in arm else f"`{arm}`"
        assert f"| {name} | {row['accuracy']} | {row['95% interval']} |" in TEXT
    for chosen, verdict in ((~without, "hurts"), (named["arm"] != "balanced", "hurts")):
        (found,) = contrasts(table[chosen], ["classifier"]).query("arm == 'balanced'").to_dict("records")
        numbers = f"{found['mean']:+.2f}", f"({found['low']:+.2f} to {found['high']:+.2f})"
        assert all(number in TEXT for number in numbers)
        assert found["verdict"].startswith(verdict)
    assert len(quality) == 10
    for oversampled, words in ((False, "{:.2f}% of all generated ones"), (True, "with it, in {:.2f}%")):
        of_these = quality["gan_test_accuracy"][quality["gan.oversample"] == oversampled]
        assert words.format(of_these.mean()) in " ".join(TEXT.split())


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", TEXT))))
def test_links_lead_to_files_of_the_repository(target):
    assert (ROOT / target).exists()


ARM_COLUMNS = ("original_plain", "original", "mixed_add", "mixed", "generated")


@pytest.mark.parametrize("dataset", ["mnist5k", "cifar10_jpeg"])
def test_the_readmes_accuracies_are_computed_from_the_published_table(dataset, published):
    ids = [run_id("classifier", config) for config in jobs.configs(resolve(dataset, "quick"))]
    table = published("classify").set_index("run_id").loc[ids].reset_index()
    for classifier, row in report.summary(table).iterrows():
        (line,) = [line for line in TEXT.splitlines() if line.startswith(f"| {dataset} | {classifier} |")]
        assert [float(cell) for cell in line.split("|")[3:8]] == [row[arm] for arm in ARM_COLUMNS]


def test_adding_generated_images_to_all_real_ones_did_what_the_readme_says(published):
    ids = [run_id("classifier", c) for d in ("mnist5k", "cifar10_jpeg") for c in jobs.configs(resolve(d, "quick"))]
    table = published("classify").set_index("run_id").loc[ids]
    means = table.groupby(["dataset", "classifier", "arm"])["test_accuracy"].mean().unstack()
    assert len(means) == 4
    assert (means["mixed"] < means["original"]).all()
    (above,) = means.index[means["mixed_add"] >= means["original"]]
    assert above == ("mnist5k", "cnn")
    said = "In all four rows `mixed` lies below `original`, and in all but that one so does `mixed_add`"
    assert f"for `cnn` on `mnist5k` an older computation had `mixed_add` below `original`. {said}" in " ".join(
        TEXT.split()
    )


def parameters_of_the_report() -> dict:
    return parameters_of(ROOT / "notebooks" / "06_report.ipynb")


def of_table_1(classifier: str, **changed: Any) -> Settings:
    """The report's study in Table 1's place, of one classifier, with these parameters in place of its own."""
    report_of = parameters_of_the_report()
    replicates, seeds = report_of["table_1"][classifier]
    given = report_of["schedule"] | {"replicates": replicates, "overrides": {"classifiers": {classifier: seeds}}}
    return study.settings_for(**given | changed)


@pytest.mark.parametrize("classifier", PAPER_CLASSIFIERS)
def test_the_readmes_table_1_is_computed_from_the_published_table(classifier, published):
    """A row a classifier: its replicates, the paper's numbers, the means of ours; or that nobody ran it."""
    table = published("classify")
    table = table[table["run_id"].isin(jobs.ids_of([of_table_1(classifier)])["classifier"])]
    complete = table.groupby("replicate")["arm"].nunique() == len(ARM_COLUMNS)
    table = table[table["replicate"].isin(complete.index[complete])]
    of_paper = " / ".join(f"{TABLE_1.loc[classifier, arm]:.2f}" for arm in ("original", "mixed", "generated"))
    if len(table):
        (row,) = report.summary(table).to_dict("records")
        n = table["replicate"].nunique()
        ours = [f"{row[arm]:.2f}" for arm in ("original", "mixed", "generated", "mixed_add", "original_plain")]
        assert "| " + " | ".join([classifier, of_paper, *ours, str(n)]) + " |" in TEXT
    else:
        assert f"| {classifier} | {of_paper} | not run |" in TEXT


def test_the_readmes_table_2_is_computed_from_the_published_table(rows_of):
    report_of, said = parameters_of_the_report(), " ".join(TEXT.split())
    assert f"the best value, {BEST_OF_TABLE_2}, presumably of a ResNet34 on `mixed`" in said
    best = report_of["best"]
    for classifier, (replicates, seeds) in report_of["table_2"].items():
        overrides = {"classifiers": {classifier: seeds}}
        settings = resolve(**best, overrides=overrides, replicates=replicates)
        rows = rows_of(settings)
        (row,) = report.summary(rows).to_dict("records")
        ((config, _),) = settings.classifiers
        passes = config.steps * config.batch_size / 45_000
        cells = [classifier, f"{passes:.1f}", *(f"{row[arm]:.2f}" for arm in ARM_COLUMNS)]
        assert "| " + " | ".join(cells) + " |" in TEXT
        assert row["original"] == max(row.values())
        own = report.summary(rows, "own_test_accuracy").loc[classifier]
        if classifier == "fast_cnn":
            tested = (
                "`fast_cnn` reaches {original:.2f}% (`original`), {mixed:.2f}% (`mixed`) and {generated:.2f}% (`gen"
            )
            assert tested.format(**own) in said
            assert own["generated"] > own["mixed"]
        assert own["mixed"] > own["original"]
        assert row["mixed"] < row["original"]
    parts = []
    for classifier, (replicates, seeds) in report_of["table_2"].items():
        given = {"replicates": replicates, "overrides": {"classifiers": {classifier: seeds}}}
        fewer = {f"{classifier}.steps": report_of["half_the_steps"][classifier]}
        half = resolve(**best, arms=["original"], **given | {"overrides": given["overrides"] | fewer})
        assert 2 * half.classifiers[0][0].steps == resolve(**best, **given).classifiers[0][0].steps
        parts += [rows_of(resolve(**best, **given)), rows_of(half).assign(arm="half")]
    pairs = [
        ("mixed_add", "original"),
        ("mixed", "original"),
        ("half", "original"),
        ("mixed_add", "half"),
        ("mixed", "half"),
    ]
    found = contrasts(pd.concat(parts), ["classifier"], named={str(pair): pair for pair in pairs})
    assert (found["n"] == 3).all()
    found = found.set_index(["classifier", "arm", "baseline"])

    def change(classifier: str, arm: str, baseline: str = "original", unit: str = "") -> str:
        return difference(found.loc[(classifier, arm, baseline)], unit)

    for words in (
        f"`mixed_add` changes `fast_cnn` by {change('fast_cnn', 'mixed_add', unit=' points')} "
        f"and `cnn` by {change('cnn', 'mixed_add')}, "
        f"`mixed` by {change('fast_cnn', 'mixed')} and {change('cnn', 'mixed')}.",
        f"and changes by {change('fast_cnn', 'half')} and {change('cnn', 'half')}.",
        f"`mixed_add` differs by {change('fast_cnn', 'mixed_add', 'half')} and {change('cnn', 'mixed_add', 'half')}, "
        f"`mixed` by {change('fast_cnn', 'mixed', 'half')} and {change('cnn', 'mixed', 'half')}",
    ):
        assert words in said
    costs = [-found.loc[(c, arm, "original"), "mean"] for arm in ("mixed", "half") for c in ("fast_cnn", "cnn")]
    words = (
        "replacing half of them costs two small networks {:.1f} and {:.1f} points; `original` with half the steps, "
        "which draws as many real images, loses {:.1f} and {:.1f} (three replicates, so no verdict)"
    )
    assert words.format(*costs) in said
    accuracy = {}
    for arm, steps_of in {"original": report_of["longer"], "mixed_add": report_of["longer_added"]}.items():
        for classifier, steps in [(name, n) for name, of_name in steps_of.items() for n in of_name]:
            overrides = {"classifiers": {classifier: 1}, f"{classifier}.steps": steps}
            (row,) = rows_of(resolve(**best, arms=[arm], overrides=overrides)).to_dict("records")
            accuracy[classifier, steps, arm] = row["test_accuracy"]
    words = (
        "With three times the steps `fast_cnn` reaches {:.2f} from real images alone, with six times {:.2f} (one "
        "replicate each);"
    )
    assert words.format(*(accuracy["fast_cnn", steps, "original"] for steps in (3_000, 6_000))) in said
    of_cnn = resolve(**best, arms=["original"], overrides={"classifiers": {"cnn": 1}})
    assert 10 * of_cnn.classifiers[0][0].steps == 30_000
    words = (
        "With ten times the steps (one replicate) `cnn` reaches {:.2f} from `original` and {:.2f} from `mixed_add`; "
        "with half of them, which draw as many real images as `mixed_add` does with all, `original` reaches {:.2f}: "
        "there, too few draws do not explain the loss."
    )
    longer = [("cnn", 30_000, "original"), ("cnn", 30_000, "mixed_add"), ("cnn", 15_000, "original")]
    assert words.format(*map(accuracy.get, longer)) in said
    row, *others = rows_of(resolve(**best, replicates=3), kind="quality").to_dict("records")
    judged = f"right about {row['judge_test_accuracy']:.2f}% of real test images sees the class that was asked for in "
    judged += f"{row['gan_test_accuracy']:.2f}% of the first generator's images (the others' judges: "
    judged += ", ".join(f"{o['judge_test_accuracy']:.2f}% and {o['gan_test_accuracy']:.2f}%" for o in others)
    assert f"{judged})" in said
    assert f"{row['gan_seconds'] / 60:.0f} minutes of one core for the generator" in said
    longest = resolve(**best, overrides={"cnn.steps": 30_000})
    (row,) = rows_of(longest, kind="quality").to_dict("records")
    judged = f"a better one, right about {row['judge_test_accuracy']:.2f}%, in {row['gan_test_accuracy']:.2f}%."
    assert judged in said


def of_ten_times(rows_of) -> tuple[Settings, pd.DataFrame]:
    """Table 1's study of `cnn` with ten times the steps, and its published rows."""
    report_of = parameters_of_the_report()
    replicates, seeds = report_of["ten_times"]["cnn"]
    given = {"replicates": replicates, "overrides": {"classifiers": {"cnn": seeds}}}
    given |= {"classifier_steps": 10 * report_of["schedule"]["classifier_steps"]}
    settings = of_table_1("cnn", **given, arms=["original", "mixed_add", "mixed", "original_half"])
    return settings, rows_of(settings)


def test_ten_times_the_steps_change_the_answer_no_more_than_the_readme_says(rows_of):
    settings, rows = of_ten_times(rows_of)
    ((classifier, seeds),) = settings.classifiers
    said = " ".join(TEXT.split())
    (row,) = report.summary(rows).to_dict("records")
    means = "`original` {original:.2f}, `mixed_add` {mixed_add:.2f}, `mixed` {mixed:.2f} and its real half alone "
    assert (means + "{original_half:.2f}.").format(**row) in said
    found = contrasts(rows, ["classifier"]).set_index("arm")
    assert found["answer"].to_dict() == {"mixed": "hurts", "mixed_add": "not shown"}
    first = contrasts(rows[rows["seed"] % 10_000 == 0], ["classifier"]).set_index("arm").loc["mixed_add"]
    assert first["answer"] == "hurts"
    mixed, added = difference(found.loc["mixed"], " points"), difference(found.loc["mixed_add"])
    words = "`mixed` still hurts, by {}. That `mixed_add` does is not shown: {}; with the first seeds alone it was, {}."
    assert words.format(mixed, added, difference(first)) in said
    half_of = {"replicates": settings.replicates, "classifier_steps": classifier.steps // 2}
    halved = rows_of(of_table_1("cnn", **half_of, arms=["original"], overrides={"classifiers": {"cnn": seeds}}))
    pairs = [("half the steps", "original"), ("mixed", "half the steps"), ("mixed_add", "half the steps")]
    pairs += [("original_half", "original"), ("mixed", "original_half")]
    ways = pd.concat([rows, halved.assign(arm="half the steps")])
    changes = contrasts(ways, ["classifier"], named={str(pair): pair for pair in pairs}).to_dict("records")
    words = (
        "with half of these steps `original` changes by {}, and compared with that `mixed` differs by {}, "
        "`mixed_add` by {}. The real images that it lacks may explain a part of it, or all: its real half alone "
        "differs from `original` by {}, and `mixed` from this half by {}."
    )
    assert words.format(*map(difference, changes)) in said
    by_steps, of_mixed, *_ = changes
    assert by_steps["low"] < 0 < by_steps["high"]
    assert of_mixed["high"] < 0
    steps = classifier.steps // 10
    seen = steps * classifier.batch_size
    passes = f"{seen / 55_000:.2f} passes over the 55,000 real images and {seen / 110_000:.2f} over the 110,000 of"
    assert passes in said


def test_the_verdicts_of_table_1_are_the_published_ones(rows_of):
    found = contrasts(rows_of(of_table_1("cnn")), ["classifier"]).set_index("arm").loc[["mixed", "mixed_add"]]
    assert (found["answer"] == "hurts").all()
    mixed, added = found.to_dict("records")
    said = f"`mixed` hurts `cnn`: {difference(mixed, ' points')}, and so does `mixed_add`: {difference(added)}."
    assert said in " ".join(TEXT.split())


def test_what_generated_images_take_the_place_of_costs_what_the_readme_says(rows_of):
    """The controls of Table 1: half of the real images; half of the steps, which draw as many of them as `mixed`."""
    steps = parameters_of_the_report()["schedule"]["classifier_steps"]
    halved = rows_of(of_table_1("cnn", classifier_steps=steps // 2, arms=["original"])).assign(arm="half the steps")
    rows = pd.concat([rows_of(of_table_1("cnn"), of_table_1("cnn", arms=["original_half"])), halved])
    pairs = [("original_half", "original"), ("half the steps", "original")]
    pairs += [("mixed", "half the steps"), ("mixed_add", "half the steps"), ("mixed", "original_half")]
    named = {str(i): pair for i, pair in enumerate(pairs)}
    images, steps, mixed, added, of_half = contrasts(rows, ["classifier"], named=named).to_dict("records")
    said = " ".join(TEXT.split())
    assert f"leaving half of all of MNIST out changes `original` by {difference(images)}." in said
    assert f"real images as they do, and loses about as much: {difference(steps)}." in said
    assert f"`mixed` differs by {difference(mixed)} and `mixed_add` by {difference(added)}: no effect" in said
    assert f"`mixed` lies below its real half alone, by {difference(of_half)}" in said
    for row in (mixed, added):
        assert max(-row["low"], row["high"]) < 0.11
        assert row["low"] < 0 < row["high"]


def test_labels_from_a_classifier_change_what_the_readme_says(rows_of):
    """In Table 1's place: more from generated images alone; with real ones what the others do."""
    labelled, beside_real = parameters_of_the_report()["labelled"], ["mixed", "mixed_add"]
    assert labelled == {"replicates": 5, "overrides": {"classifiers": {"cnn": 3}, "gan.labels": "pseudo"}}
    rows = rows_of(of_table_1("cnn", **labelled, arms=["original", "generated", *beside_real]))
    steps = parameters_of_the_report()["schedule"]["classifier_steps"]
    halved = rows_of(of_table_1("cnn", classifier_steps=steps // 2, arms=["original"]))
    told = rows_of(of_table_1("cnn"))
    ways = pd.concat([rows, told.assign(arm=told["arm"] + ", told"), halved.assign(arm="half the steps")])
    pairs = [("generated", "generated, told"), ("generated", "original")]
    pairs += [(arm, f"{arm}, told") for arm in beside_real] + [(arm, "half the steps") for arm in beside_real]
    changes = contrasts(ways, ["classifier"], named={str(pair): pair for pair in pairs})
    assert (changes["n"] == 5).all()
    more, less, *others = changes.to_dict("records")
    assert more["low"] > 0
    assert less["high"] < 0
    assert all(change["low"] < 0 < change["high"] for change in others)
    (row,) = report.summary(rows).to_dict("records")
    found = contrasts(rows, ["classifier"]).set_index("arm").loc[beside_real]
    assert list(found["answer"]) == ["hurts", "hurts"]
    mixed, added = found.to_dict("records")
    for words in (
        f"{row['generated']:.2f}, which is {difference(more, ' points')} more than from the others, and "
        f"{difference(less)} from `original`.",
        f"such images still hurt: `mixed` {row['mixed']:.2f}, {difference(mixed, ' points')}, and `mixed_add` "
        f"{row['mixed_add']:.2f}, {difference(added)}. Neither is shown to differ from its like in the table, by "
        "{} and {}, nor from `original` with half the steps, which draws as many real images: {} and {}.".format(
            *map(difference, others)
        ),
    ):
        assert words in " ".join(TEXT.split())


def test_generated_images_rank_highest_on_their_own_kind_and_lowest_on_real_ones(rows_of):
    highest, above, groups = 0, 0, list(TABLE_1)
    for classifier in TABLE_1.index:
        rows = rows_of(of_table_1(classifier))
        own, on_real = (report.summary(rows, of).loc[classifier] for of in ("own_test_accuracy", "test_accuracy"))
        highest += own[groups].idxmax() == "generated"
        above += own["mixed"] > own["original"]
        assert on_real["mixed"] < on_real["original"]
        assert on_real[groups].idxmin() == "generated"
    said = (
        f"the last the highest. Generated images rank highest on such a test on all of MNIST, too, with {highest} of "
        f"{len(TABLE_1)} classifiers."
    )
    assert said in " ".join(TEXT.split())
    said = f"only on such a test: with {above} of {len(TABLE_1)} classifiers on all of MNIST, and with both on CIFAR-10"
    assert said in " ".join(TEXT.split())
    assert (TABLE_1.idxmin(axis=1) == "generated").all()


@pytest.fixture(scope="module")
def few(rows_of):
    """The published runs with 600 real images."""
    overrides = {"data.n_real": 600, "classifiers": {"cnn": 3}}
    return rows_of(resolve("mnist", "quick", overrides=overrides, arms=STUDY_ARMS, replicates=5))


def with_diff_augment() -> tuple[list[Settings], list[Settings]]:
    """The studies of generators with DiffAugment: the sizes of the report, and the new draws."""
    of_report = parameters_of_the_report()
    overrides = {"classifiers": {"cnn": 3}, "gan.diff_augment": True}
    first = [
        resolve("mnist", overrides=overrides | {"data.n_real": n}, arms=of_report["many"], replicates=5)
        for n in of_report["augmented"]
    ]
    new = of_report["new_draws"]
    overrides |= {"data.n_real": new["n_real"][0], "data.split_seed": new["seed"]}
    given = {"seed": new["seed"], "replicates": new["replicates"], "arms": of_report["many"]}
    return first, [resolve("mnist", overrides=overrides, **given)]


def difference(row: dict, unit: str = "") -> str:
    return f"{row['mean']:+.2f}{unit} ({row['low']:+.2f} to {row['high']:+.2f})"


def shifted(rows_of) -> tuple[dict, dict, pd.DataFrame]:
    """What shifting few real digits brings, how ten times as many generated ones compare, and what they add to that."""
    of_report = parameters_of_the_report()
    (n_real,) = of_report["shifted"]["n_real"]
    beside = [study for study in with_diff_augment()[0] if study.data.n_real == n_real]
    overrides = {"classifiers": {"cnn": 3}, "gan.diff_augment": True, "data.n_real": n_real}
    overrides |= of_report["shifted"]["overrides"]
    table = rows_of(resolve("mnist", overrides=overrides, arms=of_report["many"], replicates=5))
    ways = pd.concat([rows_of(*beside), table[table["arm"] == "original"].assign(arm="shifted")])
    named = {"": ("shifted", "original"), "against": ("mixed_add:10", "shifted")}
    by_shifting, against = contrasts(ways, ["classifier"], named=named).to_dict("records")
    return by_shifting, against, contrasts(table, ["classifier"]).set_index("arm")


def ten_without_diff_augment(rows_of) -> tuple[pd.DataFrame, pd.Series]:
    """The study of ten times as many from generators without DiffAugment, and what they change."""
    of_report = parameters_of_the_report()
    overrides = {"classifiers": {"cnn": 3}, "data.n_real": of_report["without"][0]}
    rows = rows_of(resolve("mnist", overrides=overrides, arms=of_report["many"], replicates=5))
    return rows, contrasts(rows, ["classifier"]).set_index("arm").loc["mixed_add:10"]


def test_the_answer_is_the_published_one(few, rows_of):
    """The first screen down to its table: the differences, their intervals, and the program's own words."""
    (answer,) = re.findall(
        r"\*\*Short answer: the paper's proposal does not help in our runs\.\*\* .*?\n\|", TEXT, flags=re.S
    )
    full = rows_of(of_table_1("cnn"))
    studies = (full, of_ten_times(rows_of)[1], few)
    of_all, of_longer, of_few = (contrasts(rows, ["classifier"]).set_index("arm").loc["mixed"] for rows in studies)
    halved = contrasts(few, ["classifier"], named={"": ("original_half", "original")}).iloc[0]
    ten, further = (
        contrasts(rows_of(*s), ["data.n_real"]).set_index(["arm", "data.n_real"]) for s in with_diff_augment()
    )
    ten, further = ten.loc["mixed_add:10"], further.loc["mixed_add:10"]
    by_shifting, against, added = shifted(rows_of)
    rows = [of_all, of_longer, ten.loc[100], further.loc[100], by_shifting, of_few, halved, ten.loc[50], ten.loc[600]]
    rows += [ten_without_diff_augment(rows_of)[1], added.loc["mixed_add:10"]]
    said = [difference(row) for row in rows]
    assert [f"{m} ({low} to {high})" for m, low, high in re.findall(DIFFERENCE, " ".join(answer.split()))] == said
    assert {of_all["answer"], of_longer["answer"], of_few["answer"]} == {"hurts"}
    assert list(ten["answer"]) == ["not shown", "helps", "not shown"]
    assert list(further["answer"]) == ["helps"]
    assert by_shifting["low"] > ten.loc[100, "mean"]
    assert against["high"] < 0
    assert added.loc["mixed_add:10", "answer"] == "not shown"


DIFFERENCE = r"([+-]\d+\.\d+)(?: points)? \((?:95% interval )?([+-]\d+\.\d+) to ([+-]\d+\.\d+)\)"


def test_the_arms_of_few_images_are_those_of_the_published_table(few):
    for row in intervals(few, ["arm"]).to_dict("records"):
        (line,) = [line for line in TEXT.splitlines() if re.match(rf"\| `{row['arm']}` \| \d+ [a-z]", line)]
        cells = [cell.strip() for cell in line.split("|")[3:5]]
        assert cells == [f"{row['mean']:.2f}", f"{row['low']:.2f} to {row['high']:.2f}"]
        assert row["n"] == 5


def test_what_mixed_gains_over_its_half_is_what_the_table_says(few):
    row = contrasts(few, ["classifier"], named={"": ("mixed", "original_half")}).iloc[0]
    said = "`mixed` is {:+.2f} points ({:+.2f} to {:+.2f}) better than `original_half`"
    assert said.format(*row[["mean", "low", "high"]]) in TEXT


def test_the_table_of_sizes_is_computed_from_the_published_table(rows_of):
    sizes = parameters_of_the_report()["sizes"]
    given = {"arms": plans.LOW_DATA_ARMS, "replicates": 5}
    studies = [resolve("mnist", overrides={"classifiers": {"cnn": 3}, "data.n_real": n}, **given) for n in sizes]
    table = rows_of(*studies)
    means = intervals(table, ["data.n_real", "arm"]).set_index(["data.n_real", "arm"])["mean"]
    found = contrasts(table, ["classifier", "data.n_real"]).set_index(["data.n_real", "arm"])
    for n in sizes:
        cells = [f"{n:,}", *(f"{means[n, arm]:.2f}" for arm in plans.LOW_DATA_ARMS)]
        for arm in ("original", "mixed_add"):
            cells.append(difference(found.loc[(n, arm)]))
        row = found.loc[(n, "mixed_add")]
        assert "| " + " | ".join([*cells, row["verdict"].partition(":")[0]]) + " |" in TEXT
        assert row["answer"] == "not shown"
    for words in (
        "At none of five sizes, from {} to {:,} real digits, does this show",
        "any of five sizes, from {} to {:,} real digits. At three of them",
    ):
        assert words.format(sizes[0], sizes[-1]) in " ".join(TEXT.split())
    assert len(sizes) == 5
    assert (found.xs("mixed_add", level="arm")["high"] < 0).sum() == 3


def test_what_few_images_do_to_the_generators_is_what_the_table_says(rows_of):
    studies = [
        resolve("mnist", overrides={"data.n_real": n}, arms=plans.LOW_DATA_ARMS, replicates=5) for n in (50, 100)
    ]
    table = rows_of(*studies, kind="quality")
    of_50, of_100 = (rows.mean(numeric_only=True) for _, rows in table.groupby("data.n_real"))
    copied = 100 * table["duplicate_rate"][table["data.n_real"] == 50]
    said = " ".join(TEXT.split())
    assert f"With 50, {100 * of_50['duplicate_rate']:.2f}% of the generated digits lie suspiciously near" in said
    assert f"of further unseen real ones {100 * of_50['duplicate_rate_unseen']:.2f}% would." in said
    assert f"The five generators differ, from {copied.min():.2f}% to {copied.max():.2f}%." in said
    recall = table["recall"][table["data.n_real"] == 100]
    assert (recall == 0).sum() == 2
    said_of_100 = f"recall {of_100['recall']:.3f}, from 0.000 in two of them to {recall.max():.3f}, where unseen real "
    assert f"{said_of_100}digits have {of_100['val_recall']:.3f}." in said


def test_what_the_answers_were_if_all_questions_were_one_study_is_what_the_report_finds(published, results):
    (results / "tables").mkdir(parents=True)
    for name in ("classify", "classify_provenance", "quality", "quality_provenance"):
        published(name).to_csv(results / "tables" / f"{name}.csv", index=False)
    cells = nbformat.read(ROOT / "notebooks" / "06_report.ipynb", as_version=4).cells
    names: dict = {}
    for code in [cell.source for cell in cells if cell.cell_type == "code"][:3]:
        exec(code, names)
    verdicts, said = names["verdicts"], " ".join(TEXT.split())
    changed = verdicts[verdicts["answer"] != verdicts["answer_of_all"]]
    assert changed[["study", "arm", "data.n_real", "answer_of_all"]].to_numpy().tolist() == [
        ["DiffAugment", "mixed_add:10", 100, "not shown"],
        ["Table 1", "original", 0, "not shown"],
    ]
    first = report.verdict_table({"first seeds": names["full_longer"].query("seed % 10_000 == 0")})
    p_values = [*verdicts["p"][verdicts["study"] != "Table 1, ten times the steps"], *first["p"]]
    assert (holm(pd.Series(p_values))[-2:] > 0.05).all()
    assert list(first["answer"]) == ["hurts", "hurts"]
    twice = verdicts.duplicated(["classifier", "data.n_real", "arm", "baseline", "p"]).sum()
    assert twice == 3
    assert (
        f"(06 lists {len(verdicts)} verdicts, three of them twice. Corrected together, as one study's, two would"
        in said
    )


def test_what_a_generator_adds_that_does_not_run_dry_is_what_the_table_says(rows_of):
    first, (asked,) = with_diff_augment()
    table = rows_of(*first)
    means = intervals(table, ["data.n_real", "arm"]).set_index(["data.n_real", "arm"])["mean"]
    found = contrasts(table, ["classifier", "data.n_real"]).set_index(["data.n_real", "arm"])
    for n in parameters_of_the_report()["augmented"]:
        rows = [found.loc[(n, arm)] for arm in ("mixed_add", "mixed_add:10")]
        cells = [f"{n}", *(f"{means[n, arm]:.2f}" for arm in ("original", "mixed_add", "mixed_add:10"))]
        cells += [*map(difference, rows), rows[1]["verdict"].partition(":")[0]]
        assert "| " + " | ".join(cells) + " |" in TEXT
    said = " ".join(TEXT.split())
    new = contrasts(rows_of(asked), ["classifier"]).set_index("arm")
    assert new.loc["mixed_add", "answer"] == "not shown"
    ten, one = difference(new.loc["mixed_add:10"], " points"), difference(new.loc["mixed_add"])
    assert (
        f"new to these draws, help again, by {ten}. As many, asked of these draws before, are not shown to: {one}."
        in said
    )
    ten = {"": ("mixed_add:10", "mixed_add")}
    of_100 = table[table["data.n_real"] == 100]
    alone, again = (contrasts(rows, ["classifier"], named=ten).iloc[0] for rows in (of_100, rows_of(asked)))
    number = f"against as many, brings {difference(alone, ' points')}, and {difference(again)} on the further draws."
    assert number in said
    recalls = []
    for n in (100, 600):
        off = resolve("mnist", overrides={"data.n_real": n}, replicates=5)
        on = first[parameters_of_the_report()["augmented"].index(n)]
        recalls += [rows_of(study, kind="quality")["recall"].mean() for study in (off, on)]
    words = "with 100 digits it lifts recall from {:.3f} to {:.3f}; with 600 it lowers it, from {:.3f} to {:.3f}."
    assert words.format(*recalls) in said


def test_ten_times_as_many_without_diff_augment_do_what_the_readme_says(rows_of):
    without, found = ten_without_diff_augment(rows_of)
    (n,) = without["data.n_real"].unique()
    assert found["high"] < 0
    assert found["answer"] == "not shown"
    (on,) = [rows_of(study) for study in with_diff_augment()[0] if study.data.n_real == n]
    ways = pd.concat([without, on[on["arm"] == "mixed_add:10"].assign(arm="with DiffAugment")])
    named = {"": ("mixed_add:10", "mixed_add"), "on": ("with DiffAugment", "mixed_add:10")}
    number, of_diff_augment = contrasts(ways, ["classifier"], named=named).to_dict("records")
    said = " ".join(TEXT.split())
    assert f"beside each of {n} show no gain: {difference(found)}, not significant once corrected." in said
    assert f"change `original` by {difference(found, ' points')}, which corrected for both questions is not" in said
    assert f"Against as many that is {difference(number)}." in said
    assert f"from generators with DiffAugment lie {difference(of_diff_augment, ' points')} above it." in said


def test_what_shifted_digits_add_and_generated_ones_to_them_is_what_the_table_says(rows_of):
    by_shifting, against, added = shifted(rows_of)
    said = " ".join(TEXT.split())
    assert f"changes `original` by {difference(by_shifting, ' points')}. Compared with that," in said
    assert f"ten times as many generated ones without shifting differ by {difference(against)}." in said
    ten, one = difference(added.loc["mixed_add:10"], " points"), difference(added.loc["mixed_add"])
    assert f"ten times as many change it by {ten}, as many by {one}: no gain" in said
    assert (added["answer"] == "not shown").all()


CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
NUMBER = r"[-+]?\d[\d,.]*\d|\d"
VERDICTS = {"helps": "有益", "hurts": "有害", "not shown": "未证实"}


def test_the_chinese_readme_says_nothing_that_the_english_one_does_not():
    """The same numbers, commands, figures and links: the translation of the first half, not another study."""
    assert set(re.findall(NUMBER, CHINESE)) <= set(re.findall(NUMBER, TEXT))
    commands, links = r"```sh\n(.*?)```", r"\]\(([^)#]+)"
    assert set(re.findall(commands, CHINESE, flags=re.S)) <= set(re.findall(commands, TEXT, flags=re.S))
    assert set(re.findall(links, CHINESE)) - {"README.md", "CITATION.cff"} <= set(re.findall(links, TEXT))


def test_the_chinese_tables_and_differences_are_the_english_ones_in_their_order():
    def rows(text: str) -> list[list[str]]:
        return [re.findall(NUMBER, line) for line in text.splitlines() if line.startswith("|")]

    def differences(text: str) -> list[str]:  # of the answer, before the first table
        return re.findall(r"[-+]\d\.\d\d", text.partition("\n|")[0])

    english, chinese = rows(TEXT), rows(CHINESE)
    n = 2 + len(PAPER_CLASSIFIERS) + 2 + len(parameters_of_the_report()["sizes"]) + 2 + len(STUDY_ARMS)
    n += 2 + len(parameters_of_the_report()["augmented"]) + 2 + len(parameters_of_the_report()["table_2"])
    assert chinese[:n] == english[:n]
    assert differences(CHINESE) == differences(TEXT)
    of_sizes = re.findall(r"^\| [\d,]+ \|.*\| ([^|]+) \|$", TEXT, flags=re.M)
    assert len(of_sizes) == len(parameters_of_the_report()["sizes"]) + len(parameters_of_the_report()["augmented"])
    in_chinese = re.findall(r"^\| [\d,]+ \|.*\| ([^|]+) \|$", CHINESE, flags=re.M)
    assert [VERDICTS[verdict.partition(",")[0]] for verdict in of_sizes] == [v.partition("（")[0] for v in in_chinese]


def test_the_ablations_say_what_they_say_in_the_table(rows_of):
    """On MNIST: none against SPAM, with no attention shown to differ; pseudo-labels against conditional ones."""
    said = " ".join(TEXT.split())
    of_report = parameters_of_the_report()
    of_attention, of_labels = of_report["attention"], of_report["labels"]
    for ablation, level, words in (
        (of_attention, "none", "differs by {:+.2f} points (95% interval {:+.2f} to {:+.2f}) from one trained on"),
        (of_labels, "pseudo", "told the class: {:+.2f} points ({:+.2f} to {:+.2f}). But the one that"),
    ):
        levels = plans.ablation(**ablation)
        rows = plans.by_level(rows_of(*levels.values()), levels, "classifier")
        baseline, *others = rows["level"].unique()
        named = {other: (other, baseline) for other in others}
        found = contrasts(rows.assign(arm=rows["level"]), ["factor"], named=named).set_index("arm")
        assert words.format(*found.loc[level, ["mean", "low", "high"]]) in said
        assert (found["n"] == ablation["replicates"]).all()
        if ablation is of_labels:
            assert f"a tenth of the iterations each, does worse: {found.loc['per class', 'mean']:.2f}" in said
        else:
            assert (found["answer"] == "not shown").all()


def test_the_judge_says_what_it_says_in_the_table(rows_of):
    (row,) = rows_of(resolve("mnist", "quick", overrides={"gan.steps": 10_000}), kind="quality").to_dict("records")
    said = f"{row['judge_test_accuracy']:.2f}% of real ones, sees the digit that was asked for in "
    assert said + f"{row['gan_test_accuracy']:.2f}% of those of the first replicate of Table 1" in " ".join(
        TEXT.split()
    )


def test_the_speeds_are_those_of_the_published_benchmark(published):
    for row in published("bench").to_dict("records"):
        (line,) = [line for line in TEXT.splitlines() if line.startswith(f"| {row['what']} |")]
        ratios = [row["ratio_to_plain"], row["ratio_to_plain_bf16"], row["ratio_to_ignite"]]
        cells = [f"{row['ours_images_per_s']:,.0f}", *("" if pd.isna(r) else f"{r:.2f}" for r in ratios)]
        cells += [f"{row['share_of_peak']:.0%}", f"{row['share_of_data']:.1%}"]
        assert [cell.strip() for cell in line.split("|")[2:8]] == cells


def test_the_time_of_the_papers_schedule_follows_from_the_benchmark(published):
    per_second = published("bench").set_index("what")["ours_images_per_s"]
    seconds = 0.0
    for job in jobs.jobs([resolve("mnist", "paper")]):
        if job.kind != "quality":
            of_cnn = "GAN" if job.kind == "gan" else "cnn"
            model = getattr(job.config, "model", of_cnn)
            what = of_cnn if model == of_cnn else f"{model}, {job.config.stem} stem"
            seconds += job.config.steps * job.config.batch_size / per_second[f"{what}, MNIST"]
    assert f"| {seconds / 3600:.0f} hours for its five arms, computed from" in TEXT


def test_the_minutes_of_the_published_studies_are_the_sums_of_their_runs(published):
    """Of one core; the 600 digits with the quality of their generators, the ablation of attention without."""
    seconds = published("classify_provenance").set_index("run_id")["seconds"]
    of_gans = published("quality").set_index("run_id")["gan_seconds"]
    of_quality = published("quality_provenance").groupby("run_id")["seconds"].last()
    overrides = {"data.n_real": 600, "classifiers": {"cnn": 3}}
    controls = jobs.ids_of([resolve("mnist", overrides=overrides, arms=STUDY_ARMS, replicates=5)])
    attention = jobs.ids_of(list(plans.ablation(**parameters_of_the_report()["attention"]).values()))
    minutes = [(seconds[ids["classifier"]].sum() + of_gans[ids["quality"]].sum()) / 60 for ids in (controls, attention)]
    minutes[0] += of_quality[controls["quality"]].sum() / 60
    assert f"original_half,generated_shuffled   # {minutes[0]:.0f} minutes of one core\n" in TEXT
    assert f"| {minutes[0]:.0f} minutes of one core, the sum of the runs' seconds" in TEXT
    assert f"| {minutes[1]:.0f} minutes of one core without the judges and the quality" in TEXT


def test_what_ray_costs_is_what_was_measured_and_the_estimate_follows_from_it(published):
    of_grid = published("bench_grid").set_index(["engine", "machines"])
    for (engine, machines), row in of_grid.iterrows():
        (line,) = re.findall(rf"^\| `{engine}` \| {machines}\b.*$", TEXT, flags=re.M)
        overhead = "" if engine == "local" else f"{row['overhead_ms_per_run']:.0f}"
        assert [cell.strip() for cell in line.split("|")[3:5]] == [f"{row['seconds']:.1f}", overhead]
        assert row["runs"] == 202
    seconds = round(of_grid["overhead_ms_per_run"].max()) / 1000
    said = " ".join(TEXT.split())
    for words in (
        f"64 GPUs take {10_000 / 64:.0f} minutes",
        f"With the worst row's {1000 * seconds:.0f} ms the overhead is {10_000 * seconds / 60:.0f} minutes",
        f"take in {1 / seconds:.1f} runs a second",
        f"idle {1 - seconds * 64 / 60:.0%} of the time, since 64 GPUs finish {64 / 60:.2f}",
        f"takes less than {64 * seconds:.0f} seconds",
    ):
        assert words in said


def test_the_differences_between_precisions_are_those_of_the_table(published):
    rows = published("classify").query(
        "dataset == 'mnist' and classifier == 'cnn' and replicate == 0 and `data.n_real` == 0 and "
        "`classifier.steps` == 1_000"
    )
    rows = rows[rows["gan.steps"].isin([2_500]) | rows["gan.steps"].isna()]
    rows = rows.assign(group=rows["arm"], arm=rows["classifier.precision"], replicate=rows["seed"])
    found = contrasts(rows, ["group"], named={"": ("auto", "fp32")}).set_index("group")
    assert (found["n"] == 5).all()
    mean = found["mean"]
    said = (
        f"differs by {mean['original']:.2f} points (95% interval {found['low']['original']:+.2f} to "
        f"{found['high']['original']:+.2f}). With generated images it is {-mean['mixed']:.2f} (`mixed`) and "
        f"{-mean['generated']:.2f} points (`generated`) below the same in fp32"
    )
    assert said in " ".join(TEXT.split())


def test_published_rows_have_their_provenance(published):
    rows, provenance = published("classify"), published("classify_provenance")
    assert len(rows) > 0
    assert list(rows["run_id"]) == list(provenance["run_id"])
    recorded = ["commit", "torch", "torchvision", "device", "threads", "precision", "seconds"]
    assert provenance[recorded].notna().all(axis=None)
    assert not provenance["commit"].str.contains("changes|unknown").any()


def test_as_many_generators_have_their_provenance_as_it_says(published):
    generators, provenance = set(published("quality")["gan_run"]), set(published("quality_provenance")["run_id"])
    said = f"(of {len(generators - provenance)} of the {len(generators)} generators, which are older than that record"
    assert said in " ".join(TEXT.split())


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+)`", TEXT))))
def test_the_tests_that_it_names_exist(name):
    files = ("test_reliability.py", "test_cluster.py")
    assert any(f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8") for file in files)
