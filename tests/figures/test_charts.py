"""Figures with odd classes: many, few, with long names; of images whose stored and generated sizes differ."""

import os
from itertools import pairwise
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from rag_lib import notebook
from rag_lib.base import UserError
from rag_lib.data.images import Images
from rag_lib.figures import charts, galleries


@pytest.fixture(autouse=True)
def style():
    charts.use_style()
    yield
    charts.plt.close("all")


def images(classes: tuple[str, ...], size: int = 28, channels: int = 3) -> Images:
    y = torch.arange(3 * len(classes)) % len(classes)
    return Images(torch.randint(0, 256, (len(y), channels, size, size), dtype=torch.uint8), y, classes)


def test_a_dollar_in_a_name_is_a_dollar(results):
    """Regression: matplotlib took it for mathematics, and failed after all the training."""
    charts.save(galleries.gallery(images((r"$\frac$", "$5 or $6")), images((r"$\frac$", "$5 or $6")), n=2), "dollars")
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
    figure = charts.confusion(counts, "a title that is longer than a matrix of two classes is wide")
    charts.save(figure, "confusion")
    assert max(figure.get_size_inches()) <= 14
    assert (results / "figures" / "confusion.png").exists()


TABLE = pd.DataFrame(
    {
        "classifier": ["cnn"] * 6,
        "arm": ["generated", "original", "mixed"] * 2,
        "test_accuracy": [97.0, 99, 98, 97.1, 99.1, 98.1],
    }
)
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
HISTORY = pd.DataFrame({"step": [1, 2], "loss_d": 1.0, "loss_g": 1.0, "d_real": 0.5, "d_fake": 0.5, "diversity": 0.9})
FIGURES = {
    "rows": lambda: galleries.picture_rows({"stored": images(("a", "b")).x * 0}),
    "captions": lambda: galleries.picture_rows({"a": images(("a", "b")).x * 0}, {"a": ["b\n→ a very long name"] * 6}),
    "accuracy": lambda: charts.accuracy_points(TABLE),  # regression: seaborn's jitter differed from run to run
    "curves": lambda: charts.gan_curves(HISTORY),
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_same_figure_gives_the_same_bytes(name, results):
    files = []
    for _ in range(2):
        path = charts.save(FIGURES[name](), name)
        files.append((path.read_bytes(), path.with_suffix(".svg").read_bytes()))
    assert files[0] == files[1]


def test_a_figure_of_images_is_no_svg(results):
    path = charts.save(FIGURES["rows"](), "rows", picture=True)
    assert [file.name for file in path.parent.iterdir()] == ["rows.png"]


def test_a_full_disk_leaves_the_old_figure_whole(results, monkeypatch):
    before = charts.save(charts.gan_curves(HISTORY), "curves").read_bytes()
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match=r"curves.png: No space left on device"):
        charts.save(charts.gan_curves(HISTORY.head(1)), "curves", picture=True)
    assert (results / "figures" / "curves.png").read_bytes() == before
    assert len(list((results / "figures").iterdir())) == 2


def test_a_shown_figure_has_a_text_and_is_closed(results, monkeypatch):
    shown = []
    monkeypatch.setattr(notebook, "display", shown.append)
    notebook.show(charts.gan_curves(HISTORY), "curves", "Both losses.")
    assert not charts.plt.get_fignums()
    (image,) = shown
    data, metadata = image._repr_mimebundle_()
    assert list(data) == ["image/png"]
    assert metadata["image/png"] == {"alt": "Both losses."}
    assert (results / "figures" / "curves.png").exists()


def test_a_shown_figure_takes_the_place_of_one_that_moved(results):
    replaced = []
    notebook.show(FIGURES["rows"](), "rows", "Six images.", handle=SimpleNamespace(update=replaced.append))
    assert [image.alt for image in replaced] == ["Six images."]


def boxes(figure, texts) -> list:
    """Where these texts stand on the figure, in pixels."""
    figure.canvas.draw()
    return [text.get_window_extent() for text in texts]


def test_the_legends_of_the_curves_stand_apart():
    """Regression: at the figure's own size they ran into each other."""
    figure = charts.gan_curves(HISTORY)
    left, middle, right = boxes(figure, [axis.get_legend() for axis in figure.axes])
    assert left.x1 < middle.x0 < middle.x1 < right.x0


@pytest.mark.parametrize("classes", [("a", "b"), CIFAR], ids=["2", "10"])
def test_grids_of_the_training_stand_close_under_their_titles(classes, tmp_path):
    """Regression: large gaps, since the axes were higher than the pictures in them."""
    grid = galleries.montage(torch.zeros(4 * len(classes), 3, 28, 28, dtype=torch.uint8), columns=len(classes))
    for step in range(250, 1_750, 250):
        charts.plt.imsave(tmp_path / f"step-{step:06d}.png", grid)
    figure = galleries.training_samples(tmp_path, classes)
    figure.canvas.draw()
    for axis in figure.axes[:6]:
        (picture,) = axis.get_images()
        assert picture.get_window_extent().height == pytest.approx(axis.bbox.height, rel=0.01)
    upper, lower = figure.axes[0], figure.axes[5]
    assert upper.bbox.y0 - lower.bbox.y1 < 0.4 * figure.dpi


def test_names_above_images_stand_apart():
    """Regression: airplane and automobile ran into each other."""
    figure = galleries.picture_rows({"a": images(CIFAR).x[:10]}, {"a": list(CIFAR)})
    of_names = boxes(figure, figure.axes[0].texts)
    assert all(left.x1 < right.x0 for left, right in pairwise(of_names))


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
    figure = charts.low_data(pd.DataFrame(rows))
    (axis,) = figure.axes
    assert axis.get_ylim() == (0, 100)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["original", "mixed:0.25"]


def test_generated_images_alone_have_a_panel_and_a_scale_of_their_own():
    """Regression: their low accuracies flattened all other lines."""
    means = {"original": 90.0, "generated": 40.0, "mixed_add": 91.0}
    rows = [
        {"data.n_real": n, "arm": arm, "mean": mean, "low": mean - 1, "high": mean + 1}
        for n in (100, 600)
        for arm, mean in means.items()
    ]
    figure = charts.low_data(pd.DataFrame(rows))
    left, right = figure.axes
    assert left.get_ylim()[0] > 80
    assert right.get_ylim()[1] < 50
    assert left.get_xlim() == right.get_xlim()
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == set(means)
    (box,) = boxes(figure, [legend])
    assert not any(box.overlaps(axis.get_tightbbox()) for axis in figure.axes)


def test_the_low_data_figure_shows_every_interval_whole():
    """Regression: one from 46 to 86% was cut at 54."""
    row = {"data.n_real": 100, "arm": "generated", "mean": 66.0, "low": 46.0, "high": 86.0}
    (axis,) = charts.low_data(pd.DataFrame([row])).axes
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
    axes = charts.levels(found, "accuracy").axes
    assert [axis.get_title(loc="left") for axis in axes] == ["a", "b"]
    assert [[text.get_text() for text in axis.texts] for axis in axes] == [["1.00", "2.00"], ["3.00"]]


def test_differences_have_signs_and_a_claim_stands_out():
    levels = ["half of the real images replaced by generated ones", "none"]
    found = pd.DataFrame(
        {"factor": "a", "level": levels, "mean": [-0.2, 0.3], "low": [-0.4, None], "high": [0.1, None]}
    )
    for claims in ([True, False], [False, False]):
        (axis,) = charts.levels(found.assign(claim=claims), "points", differences=True).axes
        assert [text.get_text() for text in axis.texts] == ["\N{MINUS SIGN}0.20", "+0.30"]
        labels = axis.get_yticklabels()
        assert labels[0].get_text() == "half of the real images replaced\nby generated ones"
        assert [label.get_fontweight() == "bold" for label in labels] == claims
        colours = [points.get_color() for points in axis.get_lines() if points.get_marker() == "o"]
        assert [colour == "#D55E00" for colour in colours] == claims


def test_a_panels_title_does_not_touch_the_scale_above_it():
    """Regression: the axis of one panel ran into the title of the next."""
    found = pd.DataFrame({"factor": ["a", "b"], "level": "x", "mean": [-7.5, 0.2], "low": [-9.0, 0], "high": [7.0, 1]})
    figure = charts.levels(found, "points", differences=True)
    upper, lower = figure.axes
    *ticks, title = boxes(figure, [*upper.get_xticklabels(), lower._left_title])
    assert min(tick.y0 for tick in ticks) > title.y1 + 5


def test_the_diagonal_of_a_confusion_matrix_is_dark_on_grey():
    counts = pd.DataFrame([[7, 1], [2, 9]], index=["a", "b"], columns=["a", "b"])
    figure = charts.confusion(counts, "a title")
    (axis,) = figure.axes
    assert "number of images" in figure.get_suptitle()
    diagonal = [text for text in axis.texts if text.get_text() in "79"]
    assert {text.get_color() for text in diagonal} == {charts.mpl.rcParams["text.color"]}
    red, *others, _ = axis.get_facecolor()
    assert 0.8 < red < 0.95
    assert set(others) == {red}


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
    axes = charts.effects(pd.DataFrame(rows), labels).axes
    assert [axis.get_title(loc="left") for axis in axes] == list(labels.values())
    for axis, values in zip(axes, ([-0.5, -1, -6], [0.5, 1, 6]), strict=True):
        lines = [line.get_ydata().tolist() for line in axis.get_lines() if len(line.get_ydata()) == 3]
        assert lines[0] == values
        assert [tick.get_text() for tick in axis.get_xticklabels()] == ["50", "100", "600"]
