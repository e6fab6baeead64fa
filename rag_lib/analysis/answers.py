"""What the published studies say, in sentences, tables and figures: for the README, the report and `make study`."""

from collections.abc import Sequence

import pandas as pd

from rag_lib.analysis import tables, words
from rag_lib.analysis.published import Study, registry, study
from rag_lib.analysis.statistics import MIN_REPLICATES, answer, holm, images_worth, intervals
from rag_lib.base import ROOT, UserError

FIGURE = ROOT / "results" / "figures" / "answer.png"
ANSWER = (
    "We could not make the paper's proposal help. Replacing half of MNIST's digits by generated ones costs a "
    "small CNN {half} points of accuracy (95% interval {half_low} to {half_high}) after 10,000 steps. Ten "
    "generated digits beside each of 100 real ones bring {ten} points, worth about {ten_worth} more labelled digits, "
    "if the GAN is trained with DiffAugment: its discriminator sees moved and recoloured images. Shifting the 100 at "
    "random by up to two pixels, without a GAN, brings {shift} (exploratory), worth about {shift_worth}. At the "
    "paper's own schedule of 50,000 steps, in {draws}, replacing half costs {paper} points."
)

# of the first figure: by panel and its number of real images, by row, the difference as STUDY/ARM against STUDY/ARM
OF_FIRST_FIGURE: dict[tuple[str, int], dict[str, tuple[str, str]]] = {
    ("all of MNIST, 10,000 steps", 0): {
        "half replaced by generated ones: the paper's proposal": ("longer/mixed", "longer/original"),
        "as many generated ones added": ("longer/mixed_add", "longer/original"),
    },
    ("600 digits", 600): {
        "half replaced by generated ones: the paper's proposal": ("half_of_600/mixed", "few_digits/original"),
        "as many generated ones added": ("few_digits/mixed_add", "few_digits/original"),
    },
    ("100 digits", 100): {
        "as many generated ones added": ("few_digits/mixed_add", "few_digits/original"),
        "ten times as many added": ("ten_without/mixed_add:10", "few_digits/original"),
        "ten times as many added, DiffAugment": ("ten_beside_each/mixed_add:10", "ten_beside_each/original"),
        "shifted by up to two pixels, nothing added": ("shifted_again/original", "unshifted_again/original"),
        "shifted, ten times as many added, DiffAugment": ("shifted_again/mixed_add:10", "unshifted_again/original"),
    },
}


def claim(words: str, holds: bool) -> None:
    """Raise `UserError`, which names the claim, where the tables do not bear it."""
    if not holds:
        raise UserError(f"the published tables no longer show that {words}; write the sentence anew")


def verdict(name: str, arm: str, n_real: int = 0) -> dict:
    """Return a study's answer to a primary question, as `statistics.contrasts`."""
    (row,) = study(name).verdicts.query("arm == @arm and `data.n_real` == @n_real").to_dict("records")
    return row


def compared(name: str, question: str, classifier: str = "cnn", n_real: int | None = None) -> dict:
    """Return one of a study's exploratory comparisons, likewise; `n_real` where it has several."""
    found = study(name).compared.query("question == @question and classifier == @classifier")
    (row,) = found[found["data.n_real"].isin([n_real] if n_real else found["data.n_real"])].to_dict("records")
    return row


def worth(change: dict) -> dict[str, float]:
    """Return how many further real digits than 100 a change is worth: `mean`, and `low` and `high` of its interval.

    Read off the accuracy of `original` against the number of real digits; the curve's own uncertainty is left out.
    """
    rows = study("few_digits").rows.query("arm == 'original'")
    curve = intervals(rows, ["data.n_real"]).set_index("data.n_real")["mean"]
    return {end: images_worth(curve, 100, change[end]) for end in ("mean", "low", "high")}


def facts() -> dict[str, str]:
    """Return the numbers of `ANSWER` as texts; raises `UserError` where the tables bear its words no longer."""
    half, ten = verdict("longer", "mixed"), verdict("ten_beside_each", "mixed_add:10", 100)
    shift = compared("shifted_again", "shifts, against none", n_real=100)
    against = compared("ten_beside_each", "ten times as many, against shifted real digits alone")
    claim("replacing half hurts", half["answer"] == "hurts")
    claim("ten beside each of 100 help", ten["answer"] == "helps")
    claim("shifts bring more than ten generated digits each", against["high"] < 0)
    paper = verdict("paper", "mixed")
    claim("replacing half costs accuracy at the paper's schedule, too", paper["mean"] < 0)
    points = {"half": -half["mean"], "half_low": -half["high"], "half_high": -half["low"]}
    points |= {"ten": ten["mean"], "shift": shift["mean"]}
    further = {"ten_worth": worth(ten)["mean"], "shift_worth": worth(shift)["mean"]}
    numbers = {n: f"{v:.2f}" for n, v in points.items()} | {n: f"{round(v, -1):.0f}" for n, v in further.items()}
    draws = {1: "one draw", 2: "two draws", 3: "three draws", 4: "four draws"}.get(paper["n"], f"{paper['n']} draws")
    draws += ", too few for a verdict" if paper["n"] < MIN_REPLICATES else ""
    return numbers | {"paper": f"{-paper['mean']:.2f}", "n": str(paper["n"]), "draws": draws}


def published_answer() -> str:
    """Return the study's answer in a few sentences."""
    return ANSWER.format(**facts())


def answer_table() -> pd.DataFrame:
    """Return what the first figure shows: a difference a row, in points, with `factor`, `level`, `claim`, `mean` ..."""
    parts = []
    for (panel, n_real), rows in OF_FIRST_FIGURE.items():
        for label, pair in rows.items():
            found = study(pair[0].partition("/")[0]).contrasts({label: pair})
            found = found[found["data.n_real"] == n_real]
            parts.append(found.assign(factor=panel, level=label, claim="the paper" in label))
    return pd.concat(parts, ignore_index=True)


def table_of(design: str, rows: pd.DataFrame, quality: pd.DataFrame) -> pd.DataFrame:
    """Return a study's accuracies for people: percent, means over its replicates with their 95% intervals."""
    if design == "ablation":
        return tables.level_table(rows, quality)
    return tables.interval_table(rows) if design == "low-data" else tables.summary_with_intervals(rows).T


def answer_of(design: str, rows: pd.DataFrame) -> str:
    """Return a study's answers as Markdown: its verdicts, or that it has too few replicates for one."""
    if rows.empty:
        return "Not published yet."
    if design == "ablation":
        return words.ablation_conclusion(rows)
    if rows["arm"].nunique() == 1:
        return "One group, for comparisons with other studies."
    return "\n".join(words.verdicts(rows, ["classifier", "data.n_real"]))


def ledger(studies: Sequence[Study]) -> pd.DataFrame:
    """Return every verdict of these studies (`statistics.contrasts`, and `study`), of the very same runs once.

    `answer_of_all`: what the answer would be if all of these questions were one study's (Holm's correction over all).
    """
    parts = [found.assign(study=s.name) for s in studies if len(found := s.verdicts)]
    columns = ["study", "classifier", "data.n_real", "arm", "baseline", "mean", "p", "answer"]
    found = pd.concat(parts) if parts else pd.DataFrame(columns=columns)
    found = found[found["answer"] != "too few replicates"]
    found = found.drop_duplicates(["classifier", "data.n_real", "arm", "baseline", "mean", "p"])
    together = found.assign(p_holm=holm(found["p"]))
    return found.assign(answer_of_all=[answer(row) for row in together.to_dict("records")])


def of_table_1() -> pd.DataFrame:
    """Return the rows that stand in the place of the paper's Table 1."""
    return pd.concat(study(name).rows for name in ("table_1", "table_1_resnets", "table_1_deep"))


def select(studies: Sequence[str] | None) -> list[Study]:
    """Return the studies of these names, all for None; raises `UserError` for a name that the registry has not."""
    if studies is None:
        return list(registry().values())
    if isinstance(studies, str) or not isinstance(studies, Sequence) or not all(isinstance(n, str) for n in studies):
        raise UserError(f'studies = {studies!r} must be a list such as ["longer", "few_digits"]')
    return [study(name) for name in studies]
