"""Print the generated blocks of README.md, README.zh-CN.md, docs/results.md and should-i.md; docs.py has the others.

The numbers come from the published studies (results/studies.toml); each claim word is guarded beside its sentence.
"""

import math

import pandas as pd
from scipy.stats import spearmanr

from docs import change, frame, table, text
from rag_lib.analysis import answers, published, tables, words
from rag_lib.analysis.answers import claim, compared, verdict, worth
from rag_lib.analysis.paper import TABLE_1
from rag_lib.analysis.published import BY, registry, study
from rag_lib.analysis.statistics import MIN_REPLICATES, contrasts, estimate

CHANGE = "change in points (95% interval)"  # a column of `tables.contrast_table`

ANSWER_ZH = (
    "**我们未能使论文的做法产生益处。** 用生成图像替换 MNIST 的一半数字，"
    "使小型 CNN 训练 10,000 步后的准确率下降 {half} 个百分点（95% 置信区间 {half_low} 至 {half_high}）。"
    "在 100 个真实数字的每一个旁加十个生成数字（生成器用 DiffAugment 训练）提高 {ten} 个百分点，"
    "相当于多约 {ten_worth} 个有标签的数字；而不用 GAN、把 100 个数字随机平移至多两个像素，"
    "提高 {shift}（探索性），相当于多约 {shift_worth} 个。"
    "按论文自己的 50,000 步（{n} 次抽取{few}），替换一半使其下降 {paper} 个百分点。"
)


def answer() -> None:
    """Print the answer."""
    first, _, rest = answers.published_answer().partition(". ")
    text(f"**{first}.** {rest}")


def answer_zh() -> None:
    """Print the answer in Chinese."""
    facts = answers.facts()
    print(ANSWER_ZH.format(**facts, few="，尚不足以下结论" if int(facts["n"]) < MIN_REPLICATES else ""))


HEADINGS = (
    "classifier, steps, paper original, paper mixed, paper generated, original, mixed, generated, mixed_add, draws"
)


def table_1(headings: str = HEADINGS, not_run: str = "not run") -> None:
    """Print our accuracies on MNIST beside the paper's Table 1, the longest schedule first."""
    every = pd.concat([*(study(name).rows for name in ("paper", "paper_resnets", "longer")), answers.of_table_1()])
    cells = []
    for (steps, classifier), rows in every.groupby(["classifier.steps", "classifier"], sort=False):
        paper, ours = TABLE_1.loc[classifier], tables.summary(rows).loc[classifier]
        again = any(row[0] == classifier for row in cells)
        of_paper = ["" if again else f"{paper[arm]:.2f}" for arm in ("original", "mixed", "generated")]
        of_ours = [f"{ours[a]:.2f}" if a in ours else not_run for a in ("original", "mixed", "generated", "mixed_add")]
        cells.append([classifier, f"{steps:,}", *of_paper, *of_ours, str(rows["replicate"].nunique())])
    table(headings.split(", "), cells)


def bullets() -> None:
    """Print the results in bullets of one number each."""
    here = "docs/results.md"
    claim("no ResNet was trained by the paper's schedule", study("paper_resnets").rows.empty)
    augmented = compared("ten_beside_each", "ten times as many, against generators without DiffAugment")
    claim("DiffAugment makes the difference", augmented["low"] > 0)
    more = estimate(*(augmented[end] for end in ("mean", "low", "high")), ".2f", " points")
    claim("ten without DiffAugment are undecided", verdict("ten_without", "mixed_add:10", 100)["answer"] == "undecided")
    gains = answers.ledger(list(registry().values())).query("answer == 'helps' and arm != 'original'")
    claim("no other generated images help", set(gains["study"]) == {"ten_beside_each"})
    beside = [verdict("shifted_again", "mixed_add:10", n) for n in (50, 100)]
    claim("beside shifted digits ten generated ones are undecided", {row["answer"] for row in beside} == {"undecided"})
    cifar = compared("cifar10", "mixed, against original", "fast_cnn")
    halved = compared("cifar10", "half the steps, against all", "fast_cnn")
    claim("mixed loses on CIFAR-10, in three draws", cifar["n"] == 3 and max(cifar["high"], halved["high"]) < 0)
    rows = study("attention").rows
    (spam,) = contrasts(rows.assign(arm=rows["level"]), ["factor"], named={"": ("none", "SPAM")}).to_dict("records")
    claim("no attention is undecided", spam["answer"] == "undecided")
    by_paper = study("paper").rows.groupby("arm")[["test_accuracy", "own_test_accuracy"]].mean()
    on_real, own, original = *by_paper.loc["mixed"], by_paper.loc["original", "test_accuracy"]
    draws = answers.facts()["draws"]
    claim("only on a test of its own composition mixed scores above original", own > original > on_real)
    way = study("paper").on_the_way.query("arm == 'original'").groupby("step")["test_accuracy"].mean()
    baseline = TABLE_1.loc["cnn", "original"]
    passed = next(iter(way[way > baseline].index), math.inf)
    claim("real digits alone pass the paper's baseline early", passed < 5_000)
    for line in (
        f"**The paper's baseline is low.** By its own schedule `cnn` reaches {way[50_000]:.2f}% on real digits alone, "
        f"where the paper has {baseline:.2f}%. It has passed that after {passed:,} of 50,000 steps "
        f"([the paper's schedule]({here}#the-papers-schedule)).",
        f"**On a test that is half generated `mixed` would look better**: {own:.2f}% there and {on_real:.2f}% on real "
        f"digits, where `original` has {original:.2f}%, in {draws}. Generated digits are the easier test. The paper "
        "does not say what it tested on.",
        f"**DiffAugment made the one gain**: ten beside each of 100 score {more} more with it than without, "
        "exploratory. Beside shifted digits they are not shown to add anything ([should I "
        "train one?](docs/should-i.md)).",
        f"**CIFAR-10** (JPEG copy): `mixed` costs `fast_cnn` {cost(cifar)}, half the steps on real images alone cost "
        f"{cost(halved)}. Three draws get no verdict ([CIFAR-10]({here}#cifar-10)).",
        f"**The attention**: without SPAM, the accuracy on real digits of a `cnn` trained on generated ones alone "
        f"changes by {change(spam)}; undecided ([ablation]({here}#what-in-the-generator-matters)).",
    ):
        text(f"- {line}", indent="  ")


def cost(row: dict) -> str:
    """Return a paired difference that is negative as what it costs."""
    return estimate(-row["mean"], -row["high"], -row["low"], ".2f", " points")


def in_minutes(name: str) -> None:
    """Print the accuracies of a study as `make study` prints them."""
    of = study(name)
    lines = answers.table_of(of.design, of.rows, of.quality).to_string().splitlines()
    print("```", *map(str.rstrip, lines), "```", sep="\n")


def show(name: str, says: dict[str, str] | None = None) -> None:
    """Print a study: its accuracies, its answers, its comparisons, and how it is computed.

    `says`: the answers (regular expressions) that the sentences above the block rest on, by arm or by comparison.
    """
    of = study(name)
    answered = pd.concat([of.verdicts.set_index("arm")["answer"], of.compared.set_index("question")["answer"]])
    for asked, allowed in (says or {}).items():
        found = answered[answered.index == asked]
        claim(f"{asked} of {name}: {allowed}", len(found) > 0 and found.str.fullmatch(allowed).all())
    if of.design == "ablation":
        frame(tables.level_table(of.rows, of.quality))
        print(f"\n{words.ablation_conclusion(of.rows)}")
    elif of.design == "low-data":
        found = tables.summary_with_intervals(of.rows, "data.n_real")[of.rows["arm"].unique()]
        frame(found.rename(index="{:,}".format).rename_axis(index="real images"))
    else:
        rows = of.on_the_way
        steps = [f"{name}, {n:,} steps" for name, n in rows[["classifier", "step"]].to_numpy()]
        whole = set(of.rows["run_id"]) == set(rows["run_id"])
        frame(tables.summary_with_intervals(rows.assign(classifier=steps) if whole else of.rows))
    judged = of.design != "ablation" and len(of.verdicts) and "too few replicates" not in set(of.verdicts["answer"])
    if judged:
        comparisons(tables.contrast_table(of.verdicts, answers=True))
    if of.compared["low"].notna().any():  # else the accuracies show as much
        comparisons(tables.contrast_table(of.compared))
    print(f"\n`make study NAME={name}`. Asked: {of.asked[0].lower()}{of.asked[1:]}")


def comparisons(found: pd.DataFrame) -> None:
    """Print a table of comparisons, without columns that say nothing; a column a classifier if none has an answer."""
    found = found.reset_index()
    heading = "comparison"
    if found["classifier"].nunique() > 1 and found["replicates"].nunique() == 1 and "answer" not in found:
        heading = f"{heading}: {CHANGE}"
        found = found.set_index(["real images", "comparison", "replicates", "classifier"])[CHANGE]
        found = found.unstack("classifier", sort=False).reset_index()
    same = [
        name for name in ("classifier", "real images", "replicates") if name in found and found[name].nunique() == 1
    ]
    draws = f" ({found['replicates'].iloc[0]} draws)" if "replicates" in same else ""
    empty = [name for name in found if (found[name] == "").all()]
    found = found.drop(columns=[*same, *empty])
    print()
    head = [f"{heading}{draws}" if name == "comparison" else name for name in found]
    table(head, found.astype(str).itertuples(index=False))


def ten_elsewhere() -> None:
    """Print what ten generated digits beside each do with other numbers of real ones, and without DiffAugment."""
    others = [verdict("ten_beside_others", "mixed_add:10", n) for n in (50, 600)]
    without = verdict("ten_without", "mixed_add:10", 100)
    claim("with 50 and 600 digits the question is open", {row["answer"] for row in others} == {"undecided"})
    claim("without DiffAugment it is open", without["answer"] == "undecided")
    text(
        f"Ten beside each of 50 or 600 digits are undecided (`ten_beside_others`): {change(others[0])} and",
        f"{change(others[1])}. So are ten beside each of 100 without DiffAugment (`ten_without`): {change(without)}.",
    )


def ledger() -> None:
    """Print how many verdicts there are, and which hang on the family that they are corrected for."""
    found = answers.ledger(list(registry().values()))
    changed = found[found["answer"] != found["answer_of_all"]]
    others = [
        f"`{row['arm']}`"
        + (f" with {row['data.n_real']} digits" if row["data.n_real"] else "")
        + f" in `{row['study']}` ({row['answer_of_all']})"
        for row in changed.to_dict("records")
    ]
    left = [of for of in registry().values() if of.missing]
    unrun = [f"`{of.name}` ({of.missing} of {sum(map(len, of.ids.values()))} runs)" for of in left]
    text(
        f"There are {len(found)} verdicts, each corrected within its study. Corrected over all of them, {len(changed)}",
        f"would change: {'; '.join(others) or 'none'}.",
        f"Asked, but not yet computed: {', '.join(unrun)}." if unrun else "",
    )


def looks() -> None:
    """Print what each half of the ten draws shows."""
    ten = study("ten_beside_each").rows
    parts = (ten[ten["replicate"] < 5], ten[ten["replicate"] >= 5])
    halves = [contrasts(rows, BY).set_index("arm").loc["mixed_add:10"] for rows in parts]
    claim("both halves help", all(half["answer"] == "helps" for half in halves))
    text(f"The first five draws alone: {change(halves[0])}; the five that repeat them: {change(halves[1])}.")


def extended() -> None:
    """Print what was shown of all of MNIST before the second seeds."""
    longer = study("longer").rows
    first = contrasts(longer[longer["seed"] % 10_000 == 0], BY).set_index("arm").loc["mixed_add"]
    claim("mixed_add hurt with the first seeds", first["answer"] == "hurts")
    claim("with both seeds mixed_add is undecided", verdict("longer", "mixed_add")["answer"] == "undecided")
    text(f"With the first seeds alone `mixed_add` was shown to hurt: {change(first)}. With both it is undecided.")


def pooled() -> None:
    """Print what both studies of shifted digits say together of 100 digits; the answers stand in the page's words."""
    ones = [verdict("shifted_again", "mixed_add", n)["answer"] for n in (50, 100)]
    claim("one beside each of 50 shifted hurts, of 100 changes nothing", ones == ["hurts", "no effect that matters"])
    claim("five draws left ten beside each open", verdict("shifted", "mixed_add:10", 100)["answer"] == "undecided")
    rows = pd.concat([study(name).rows for name in ("shifted", "shifted_again")]).query("`data.n_real` == 100")
    found = contrasts(rows, BY).set_index("arm")
    one, ten = (found.loc[arm].to_dict() for arm in ("mixed_add", "mixed_add:10"))
    text(
        f"With 100 digits both studies have {ten['n']} draws together, five of them the reason for the others.",
        f"Exploratory: one beside each changes accuracy by {change(one)}, ten by {change(ten)};",
        f"{ten['margin']:.2f} would matter.",
    )


def should_i() -> None:
    """Print what was done with few and with many real images, and what it brought."""
    rotation, shifted = "rotation by up to 10 degrees", "digits, rotated and shifted"
    one, ten = "one generated beside each", "ten generated beside each (DiffAugment)"
    rows = []
    for n, images, done, name, arm in (
        (50, "digits", rotation, "few_digits", "original"),
        (50, "digits, rotated", "shifts by up to two pixels", "shifted_again", None),
        (50, shifted, f"{one} (DiffAugment)", "shifted_again", "mixed_add"),
        (50, shifted, ten, "shifted_again", "mixed_add:10"),
        (100, "digits", rotation, "few_digits", "original"),
        (100, "digits, rotated", "shifts by up to two pixels", "shifted_again", None),
        (100, "digits, rotated", ten, "ten_beside_each", "mixed_add:10"),
        (100, shifted, f"{one} (DiffAugment)", "shifted_again", "mixed_add"),
        (100, shifted, ten, "shifted_again", "mixed_add:10"),
        (600, "digits, rotated", one, "few_digits", "mixed_add"),
        (0, "digits", rotation, "table_1", "original"),
        (0, "digits, rotated", one, "longer", "mixed_add"),
        (0, "digits, rotated", "half of them replaced", "longer", "mixed"),
    ):
        of = study(name)
        of = of.verdicts.query("arm == @arm") if arm else of.compared.query("question == 'shifts, against none'")
        (row,) = of[of["data.n_real"] == n].to_dict("records")
        answer = row["answer"] if arm else "exploratory"
        rows.append((f"{n or 55_000:,} {images}", done, change(row, ""), f"{row['margin']:.2f}", answer, f"`{name}`"))
    table(["real images", "what is done", CHANGE, "would matter", "answer", "study"], rows)
    beside = compared("ten_beside_each", "ten times as many, against shifted real digits alone")
    claim("shifts bring more than generated digits", beside["high"] < 0)
    claim("with few digits rotation helps", all(verdict("few_digits", "original", n)["low"] > 0 for n in (50, 100)))
    whole = verdict("table_1", "original")
    claim("with all of MNIST rotation changes nothing that matters", whole["answer"] == "no effect that matters")


def costs() -> None:
    """Print how long the generators of few digits take."""
    quality = study("shifted_again").quality
    of = published.table("quality_provenance").set_index("run_id").loc[quality["gan_run"]]
    claim("they had one thread and bfloat16", set(of["threads"]) == {1} and set(of["precision"]) == {"bf16"})
    low, high = quality["gan_seconds"].min() / 60, quality["gan_seconds"].max() / 60
    text(
        f"With DiffAugment and 2,500 iterations a generator took {low:.0f} to {high:.0f} minutes of one thread with",
        "bfloat16.",
    )


def forecast() -> None:
    """Print whether the Frechet distance tells beforehand how much ten generated digits beside each bring."""
    of = study("shifted_again")
    means = of.rows.groupby(["data.n_real", "replicate", "arm"])["test_accuracy"].mean().unstack()
    gain = (means["mixed_add:10"] - means["original"]).rename("gain")
    judged = of.quality.set_index(["data.n_real", "replicate"]).join(gain).groupby("data.n_real")
    found = {n: spearmanr(group["frechet_distance"], group["gain"]) for n, group in judged}
    claim("no correlation is shown", min(rank.pvalue for rank in found.values()) > 0.05)
    each = " and ".join(f"{rank.statistic:+.2f} with {n} digits (p = {rank.pvalue:.2f})" for n, rank in found.items())
    text(
        "It is not shown. In earlier studies a smaller Frechet distance to the real images went with a larger gain,",
        "within most sizes. Among the ten generators of each size in `shifted_again` Spearman's correlation is",
        f"{each}. So few show only correlations beyond 0.65, and distances of so few images are noisy.",
    )


def in_further_images() -> None:
    """Print what effects are worth in further real digits."""
    effects = {
        "ten generated digits beside each, DiffAugment": verdict("ten_beside_each", "mixed_add:10", 100),
        "random shifts by up to two pixels": compared("shifted_again", "shifts, against none", n_real=100),
    }
    rows = [(what, change(row, ""), estimate(**worth(row), form=".0f")) for what, row in effects.items()]
    table(["what is done with 100 digits", "change in points", "worth so many further real digits"], rows)
