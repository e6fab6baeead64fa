"""Figures with odd classes: many, few, with long names; of images whose stored and generated sizes differ."""

import pandas as pd
import pytest
import torch

from rag_lib import galleries, plots
from rag_lib.images import Images


@pytest.fixture(autouse=True)
def style():
    plots.use_style()
    yield
    plots.plt.close("all")


def images(classes: tuple[str, ...], size: int = 28, channels: int = 3) -> Images:
    y = torch.arange(3 * len(classes)) % len(classes)
    return Images(torch.randint(0, 256, (len(y), channels, size, size), dtype=torch.uint8), y, classes)


def test_a_dollar_in_a_name_is_a_dollar(results):
    """Regression: matplotlib took it for mathematics, and failed after all the training."""
    plots.save(galleries.gallery(images((r"$\frac$", "$5 or $6")), images((r"$\frac$", "$5 or $6")), n=2), "dollars")
    assert (results / "figures" / "dollars.png").exists()


LONG = ("robin", "Blue tit (very long class name indeed)", "wren")


def test_the_gallerys_names_stand_at_the_middle_of_their_rows():
    """Regression: they drifted where stored images are larger than generated ones."""
    figure = galleries.gallery(images(LONG, size=32), images(LONG, size=28), n=3)
    ticks = figure.axes[0].get_yticks().tolist()
    assert ticks == [16, 50, 84]  # rows of 32 pixels with gaps of 2
    assert figure.axes[0].get_yticklabels()[1].get_text() == "Blue tit (very\nlong class…"


@pytest.mark.parametrize("classes", [("a", "b"), LONG, tuple(f"{i:05}" for i in range(40))], ids=["2", "long", "40"])
def test_confusions_of_any_number_of_classes_are_drawn_at_a_readable_size(classes, results):
    counts = pd.DataFrame(7, index=list(classes), columns=list(classes))
    figure = plots.confusion(counts, "a title that is longer than a matrix of two classes is wide")
    plots.save(figure, "confusion")
    assert max(figure.get_size_inches()) <= 14
    assert (results / "figures" / "confusion.png").exists()


TABLE = pd.DataFrame(
    {
        "classifier": ["cnn"] * 6,
        "arm": ["generated", "original", "mixed"] * 2,
        "test_accuracy": [97.0, 99, 98, 97.1, 99.1, 98.1],
    }
)
HISTORY = pd.DataFrame({"step": [1, 2], "loss_d": 1.0, "loss_g": 1.0, "d_real": 0.5, "d_fake": 0.5, "diversity": 0.9})
FIGURES = {
    "rows": lambda: galleries.rows({"stored": images(("a", "b")).x * 0}),
    "captions": lambda: galleries.rows({"a": images(("a", "b")).x * 0}, {"a": ["b\n→ a very long name"] * 6}),
    "accuracy": lambda: plots.accuracy_points(TABLE),  # regression: seaborn's jitter differed from run to run
    "curves": lambda: plots.gan_curves(HISTORY),
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_same_figure_gives_the_same_bytes(name, results):
    files = []
    for _ in range(2):
        path = plots.save(FIGURES[name](), name)
        files.append((path.read_bytes(), path.with_suffix(".svg").read_bytes()))
    assert files[0] == files[1]


def test_a_montage_fills_rows_on_white():
    picture = galleries.montage(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), columns=2, gap=1)
    assert picture.shape == (9, 9, 3)
    assert picture[:4, :4].max() == 0
    assert picture[4].min() == 255  # the gap
    assert picture[5:, 5:].min() == 255  # no fourth image


def test_the_low_data_figure_stays_within_what_an_accuracy_can_be():
    rows = [
        {"data.n_real": n, "arm": arm, "mean": 90.0, "low": -20.0, "high": 200.0}
        for n in (100, 600)
        for arm in ("original", "mixed:0.25")
    ]
    (axis,) = plots.low_data(pd.DataFrame(rows)).axes
    assert axis.get_ylim() == (0, 100)
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["original", "mixed:0.25"]


def test_the_low_data_figure_shows_every_interval_whole():
    """Regression: one from 46 to 86% was cut at 54."""
    row = {"data.n_real": 100, "arm": "generated", "mean": 66.0, "low": 46.0, "high": 86.0}
    (axis,) = plots.low_data(pd.DataFrame([row])).axes
    lowest, highest = axis.get_ylim()
    assert lowest < 46 < 86 < highest


def test_levels_draw_a_panel_a_factor_and_a_point_a_level():
    found = pd.DataFrame(
        {
            "factor": ["a", "a", "b"],
            "level": ["x", "y", "x"],
            "mean": [1.0, 2, 3],
            "low": [0.5, 1, 2],
            "high": [2.0, 3, 4],
        }
    )
    axes = plots.levels(found, "accuracy").axes
    assert [axis.get_title(loc="left") for axis in axes] == ["a", "b"]


def test_the_effects_stand_at_their_sizes_with_their_intervals():
    rows = [
        {
            "arm": arm,
            "data.n_real": n,
            "mean": sign * n / 100,
            "low": sign * n / 100 - 0.5,
            "high": sign * n / 100 + 0.5,
        }
        for arm, sign in (("mixed_add", -1), ("original", 1))
        for n in (100, 50, 600)
    ]
    labels = {"mixed_add": "generated images, added", "original": "random rotation"}
    axes = plots.effects(pd.DataFrame(rows), labels).axes
    assert [axis.get_title(loc="left") for axis in axes] == list(labels.values())
    for axis, values in zip(axes, ([-0.5, -1, -6], [0.5, 1, 6]), strict=True):
        lines = [line.get_ydata().tolist() for line in axis.get_lines() if len(line.get_ydata()) == 3]
        assert lines[0] == values
        assert [tick.get_text() for tick in axis.get_xticklabels()] == ["50", "100", "600"]
