"""The numbers of docs/results.md, computed once more from the tables by pandas and SciPy, with nothing of rag_lib."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

PAGE = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
OF_CNN = (
    "dataset == 'mnist' and classifier == 'cnn' and seed % 10_000 < 3 and `classifier.precision` == 'auto' "
    "and (`gan.labels` == 'conditional' or `gan.labels`.isna())"
)
OF_STUDY = {
    "paper": "`classifier.steps` == 50_000",
    "longer": "`classifier.steps` == 10_000",
    "table_1": "`data.n_real` == 0 and `classifier.steps` == 1_000 and arm != 'original_half' "
    "and (`gan.steps` == 10_000 or `gan.steps`.isna())",
    "few_digits": "`data.n_real` > 0 and replicate < 5 and `gan.diff_augment` != True and `data.translation` == 0",
    "half_of_600": "`data.n_real` == 600 and `gan.diff_augment` != True",
    "ten_beside_each": "`data.n_real` == 100 and replicate < 10 and `gan.diff_augment` != False "
    "and `data.translation` == 0",
    "shifted": "`data.translation` == 2 and replicate < 5",
    "shifted_again": "`data.translation` == 2 and replicate >= 10",
    "unshifted_again": "`data.n_real` > 0 and `data.translation` == 0 and replicate >= 10",
}


def tables_of(name: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The rows that the page shows of a study, each a dictionary: of accuracies, and of comparisons."""
    (block,) = re.findall(rf'cog results\.show\("{name}".*?\]\]\]-->(.*?)<!--\[\[\[end', PAGE, re.DOTALL)
    found = []
    for text in re.findall(r"(?:^\|.*\n)+", block, re.MULTILINE):
        text = re.sub(r" \(\d+ draws\)", "", text)
        head, _, *rows = [[cell.strip() for cell in line.strip("|\n ").split("|")] for line in text.splitlines()]
        found += [dict(zip(head, row, strict=True)) for row in rows]
    return [row for row in found if "comparison" not in row], [row for row in found if "comparison" in row]


def with_interval(values: pd.Series) -> tuple[float, ...]:
    """A mean, and from three replicates on its 95% interval by Student's t."""
    if len(values) < 3:
        return (values.mean(),)
    half = stats.t.ppf(0.975, len(values) - 1) * values.std() / np.sqrt(len(values))
    return values.mean(), values.mean() - half, values.mean() + half


def numbers(cell: str) -> tuple[float, ...]:
    return tuple(float(number.replace(",", "")) for number in re.findall(r"[-+]?\d[\d.,]*", cell))


def means_of(name: str, tables: Path) -> dict[str, pd.Series]:
    """The mean accuracies on test and on val images by number of real images (or step), arm and replicate."""
    rows, by = pd.read_csv(tables / "classify.csv").query(f"{OF_CNN} and {OF_STUDY[name]}"), "data.n_real"
    if name == "paper":  # which the page shows on the way, too
        way, by = pd.read_csv(tables / "milestones.csv"), "step"
        rows = rows.drop(columns=["test_accuracy", "val_accuracy"]).merge(way, on="run_id")
    return {images: rows.groupby([by, "arm", "replicate"])[f"{images}_accuracy"].mean() for images in ("test", "val")}


@pytest.mark.parametrize("name", [name for name in OF_STUDY if name not in ("shifted", "unshifted_again")])
def test_what_the_page_shows_is_what_the_rows_give(name, committed):
    means = {of: means_of(of, committed / "tables") for of in OF_STUDY}
    accuracies, comparisons = tables_of(name)
    asked = tomllib.loads((committed / "studies.toml").read_text(encoding="utf-8"))[name].get("compare", {})
    compared = 0
    for row in accuracies:
        (at,) = numbers(row.get("real images", row.get("classifier", ""))) or (0.0,)
        for arm in row.keys() - {"classifier", "real images"}:
            expected = with_interval(means[name]["test"][at, arm])
            assert numbers(row[arm]) == pytest.approx(expected, abs=0.0051), (row, arm)
    for row in comparisons:
        arms = asked.get(row["comparison"]) or row["comparison"].split(" against ")
        sides = [(arm.rpartition("/")[0] or name, arm.rpartition("/")[2]) for arm in arms]
        if all(of in OF_STUDY for of, _ in sides):
            at = (numbers(row.get("real images", "")) or (means[name]["test"].index[-1][0],))[0]
            for images, shown in (("test", "change in points (95% interval)"), ("val", "on val images")):
                if row.get(shown):
                    one, other = (means[of][images][at, arm] for of, arm in sides)
                    assert numbers(row[shown]) == pytest.approx(with_interval((one - other).dropna()), abs=0.0051), row
                    compared += 1
    assert accuracies
    assert compared or means[name]["test"].index.get_level_values("replicate").nunique() < 3
