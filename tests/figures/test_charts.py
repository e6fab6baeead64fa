"""Figures with odd classes: many, few, with long names; of images whose stored and generated sizes differ."""

import errno
import io
import os
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import refused
from PIL import Image

from rag_lib import notebook
from rag_lib.analysis.published import Study, registry
from rag_lib.data.images import Images
from rag_lib.figures import charts, galleries, style
from rag_lib.settings.arms import ARMS


@pytest.fixture(autouse=True)
def look():
    style.use_style()
    yield
    charts.plt.close("all")


def images(classes: tuple[str, ...], size: int = 28, channels: int = 3) -> Images:
    y = torch.arange(3 * len(classes)) % len(classes)
    return Images(torch.randint(0, 256, (len(y), channels, size, size), dtype=torch.uint8), y, classes)


def boxes(figure, texts) -> list:
    """Where these texts stand on the figure, in pixels."""
    figure.canvas.draw()
    return [text.get_window_extent() for text in texts]


LONG = ("robin", "Blue tit (very long class name indeed)", "wren")
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DOLLARS = (r"$\frac$", "$5 or $6")  # regression: taken for mathematics, they failed after all the training


@pytest.mark.parametrize("classes", [DOLLARS, LONG, tuple(map(str, range(40)))], ids=["dollars", "long", "40"])
def test_confusions_and_galleries_of_any_classes_are_drawn(classes):
    counts = pd.DataFrame(7, index=list(classes), columns=list(classes))
    figure = charts.confusion(counts, "a title that is longer than a matrix of two classes is wide")
    assert max(figure.get_size_inches()) <= 14
    assert len(figure.axes[0].texts) == (len(classes) ** 2 if len(classes) <= 20 else 0)  # the diagonal, too
    style.save(figure, "confusion")
    style.save(galleries.gallery(images(classes), images(classes), n=2), "gallery")


def test_the_gallerys_names_stand_at_the_middle_of_their_rows():
    """Regression: they drifted where stored images are larger than generated ones."""
    axis = galleries.gallery(images(LONG, size=32), images(LONG, size=28), n=3).axes[0]
    assert axis.get_yticks().tolist() == [16, 50, 84]  # rows of 32 pixels with gaps of 2
    assert axis.get_yticklabels()[1].get_text() == "Blue tit (very\nlong class…"


TABLE = pd.DataFrame({"arm": ["generated", "original"] * 2, "test_accuracy": [97.0, 99, 97.1, 99.1]})
OF_SAMPLES = {"diversity": 0.9, "diversity_lowest": 0.7}
HISTORY = pd.DataFrame({"step": [1, 2], "loss_d": 1.0, "loss_g": 1.0, "d_real": 0.5, "d_fake": 0.5} | OF_SAMPLES)
FIGURES = {
    "rows": lambda: galleries.picture_rows({"stored": images(("a", "b")).x * 0}),
    "captions": lambda: galleries.picture_rows({"a": images(("a", "b")).x * 0}, {"a": ["b\n→ a very long name"] * 6}),
    "accuracy": lambda: charts.accuracy_points(TABLE.assign(classifier="cnn")),  # regression: of seaborn's jitter
    "curves": lambda: charts.gan_curves(HISTORY),
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_same_figure_gives_the_same_bytes(name):
    saved = []
    for process in (1, 2):
        np.random.seed(process)  # another process would have other random numbers
        saved.append(style.save(FIGURES[name](), f"{name}-{process}"))
    first, second = saved
    for kind in (".png", ".svg"):
        assert first.with_suffix(kind).read_bytes() == second.with_suffix(kind).read_bytes()


def test_a_shown_figure_of_images_has_a_text_is_closed_and_no_svg(results, monkeypatch):
    shown = []
    monkeypatch.setattr(notebook, "display", shown.append)
    notebook.show(FIGURES["rows"](), "rows", "Six images.", picture=True)
    assert [image.alt for image in shown] == ["Six images."]
    assert not charts.plt.get_fignums()
    assert [file.name for file in (results / "figures").iterdir()] == ["rows.png"]


def test_a_chart_has_a_palette_and_a_figure_of_images_every_colour():
    for picture, mode in ((False, "P"), (True, "RGBA")):
        for content in (
            style.save(FIGURES["rows"](), "rows", picture),
            io.BytesIO(style.shown(FIGURES["rows"](), "", picture).data),
        ):
            assert Image.open(content).mode == mode


def test_a_disk_that_is_full_is_named_with_the_figure(monkeypatch):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(full))
    with refused("curves.png: No space left on device; make room, or mend the disk"):
        style.save(charts.gan_curves(HISTORY), "curves", picture=True)


def test_no_two_arms_of_a_chart_have_one_colour():
    """Regression: mixed_add:10 could have that of mixed_add."""
    arms = [*ARMS, "mixed_add:10", "generated:2", *(f"mixed:0.{i}" for i in range(1, 10))]
    assert len(set(charts.colours_of(arms).values())) == len(arms)


def test_the_legends_of_the_curves_stand_apart():
    """Regression: at the figure's own size they ran into each other."""
    figure = charts.gan_curves(HISTORY)
    legends = boxes(figure, [axis.get_legend() for axis in figure.axes])
    assert all(left.x1 < right.x0 for left, right in pairwise(legends))


def test_names_above_images_stand_apart():
    """Regression: airplane and automobile ran into each other."""
    figure = galleries.picture_rows({"a": images(CIFAR).x[:10]}, {"a": list(CIFAR)})
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes(figure, figure.axes[0].texts)))


@pytest.mark.parametrize("classes", [("a", "b"), CIFAR], ids=["2", "10"])
def test_grids_of_the_training_stand_close_under_their_titles(classes, tmp_path):
    """Regression: large gaps, since the axes were higher than the pictures in them."""
    grid = galleries.montage(torch.zeros(4 * len(classes), 3, 28, 28, dtype=torch.uint8), columns=len(classes))
    for step in range(250, 1_750, 250):
        charts.plt.imsave(tmp_path / f"step-{step:06d}.png", grid)
    figure = galleries.training_samples(tmp_path, classes)
    pictures = boxes(figure, [axis.get_images()[0] for axis in figure.axes[:6]])
    for picture, axis in zip(pictures, figure.axes, strict=False):
        assert picture.height == pytest.approx(axis.bbox.height, rel=0.01)
    assert pictures[0].y0 - pictures[5].y1 < 0.4 * figure.dpi


def test_a_montage_fills_rows_on_white():
    picture = galleries.montage(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), columns=2, gap=1)
    assert picture.shape == (9, 9, 3)
    assert picture[:4, :4].max() == 0
    assert picture[4].min() == 255  # the gap
    assert picture[5:, 5:].min() == 255  # no fourth image
    few = galleries.montage(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), columns=3, gap=1)
    assert few.shape == (4, 14, 3)  # regression: it had one column
    assert few[:, :4].max() == 0
    assert few[:, 4:].min() == 255


def with_bars(rows: list[tuple[str, int, float]], half: float = 1.0) -> pd.DataFrame:
    """Rows of an arm, a number of real images and a mean, each with an interval."""
    found = pd.DataFrame(rows, columns=["arm", "data.n_real", "mean"])
    return found.assign(low=found["mean"] - half, high=found["mean"] + half)


@pytest.mark.parametrize(("half", "shown"), [(20, (43, 89)), (100, (0, 100))])
def test_the_low_data_figure_shows_intervals_whole_up_to_100(half, shown):
    """Regression: one from 46 to 86% was cut at 54."""
    (axis,) = charts.accuracies(with_bars([("generated", 100, 66.0)], half)).axes
    assert axis.get_ylim() == pytest.approx(shown, abs=2)


def test_generated_images_alone_have_a_panel_and_a_scale_of_their_own():
    """Regression: their low accuracies flattened all other lines."""
    means = {"original": 90.0, "generated": 40.0, "mixed:0.25": 91.0}
    figure = charts.accuracies(with_bars([(arm, n, mean) for n in (100, 600) for arm, mean in means.items()]))
    left, right = figure.axes
    assert left.get_ylim()[0] > 80
    assert right.get_ylim()[1] < 50
    assert left.get_xlim() == right.get_xlim()
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == set(means)
    (box,) = boxes(figure, [legend])
    assert not any(box.overlaps(axis.get_tightbbox()) for axis in figure.axes)


def test_the_effects_stand_at_their_sizes():
    labels = {"mixed_add": "generated images, added", "original": "random rotation"}
    signs = {"mixed_add": -1, "original": 1}
    rows = [(arm, n, sign * n / 100) for arm, sign in signs.items() for n in (100, 50, 600)]
    axes = charts.effects(with_bars(rows), labels).axes
    assert [axis.get_title(loc="left") for axis in axes] == list(labels.values())
    for axis, sign in zip(axes, signs.values(), strict=True):
        lines = [line.get_ydata().tolist() for line in axis.get_lines() if len(line.get_ydata()) == 3]
        assert lines[0] == [sign * 0.5, sign * 1, sign * 6]
        assert [tick.get_text() for tick in axis.get_xticklabels()] == ["50", "100", "600"]


def test_accuracies_and_effects_stand_at_their_steps():
    """Of one draw without intervals, too."""
    found = with_bars([("original", step, step / 1000) for step in (50_000, 1_000)], half=np.nan)
    found = found.rename(columns={"data.n_real": "step"})
    for figure in (charts.accuracies(found, "step"), charts.effects(found, {"original": "o"}, "step")):
        (axis,) = figure.axes
        assert [tick.get_text() for tick in axis.get_xticklabels()] == ["1,000", "50,000"]
        assert [1, 50] in [list(line.get_ydata()) for line in axis.get_lines()]
        assert axis.get_xlabel() == "steps of the classifier"


def test_a_study_with_accuracies_on_the_way_is_drawn_over_its_steps(monkeypatch):
    rows = pd.DataFrame([("cnn", arm, r, 99 + r / 10) for arm in ("mixed", "original") for r in range(3)])
    rows = rows.set_axis(["classifier", "arm", "replicate", "test_accuracy"], axis=1)
    rows = rows.assign(dataset="mnist", test_images=10_000, **{"data.n_real": 0})
    way = rows.merge(pd.DataFrame({"step": [1_000, 50_000]}), how="cross")
    way["test_accuracy"] -= (way["arm"] == "mixed") * way["step"] / 10_000
    monkeypatch.setattr(Study, "rows", rows)
    monkeypatch.setattr(Study, "on_the_way", way)
    studied = Study("x", "?", "", "classify")
    (axis,) = notebook.figure_of(studied).axes
    assert (axis.get_title(loc="left"), axis.get_xlabel()) == ("mixed against original", "steps of the classifier")
    assert any(np.allclose(line.get_ydata(), [-0.1, -5]) for line in axis.get_lines() if len(line.get_ydata()) == 2)
    for other in (way.assign(classifier=way["arm"]), way[way["arm"] == "mixed"]):  # nothing to compare: as any study
        monkeypatch.setattr(Study, "on_the_way", other)
        assert notebook.figure_of(studied).axes[0].get_xlabel() == notebook.ACCURACY


def test_levels_draw_a_panel_a_factor_and_a_point_a_level():
    found = pd.DataFrame({"factor": ["a", "a", "b"], "level": ["x", "y", "x"], "mean": [1.0, 2, 3]})
    axes = charts.levels(found.assign(low=0.5, high=4.0), "accuracy").axes
    assert [axis.get_title(loc="left") for axis in axes] == ["a", "b"]
    assert [[text.get_text() for text in axis.texts] for axis in axes] == [["1.00", "2.00"], ["3.00"]]


@pytest.mark.parametrize("claims", [[True, False], [False, False]])
def test_differences_have_signs_and_a_claim_stands_out(claims):
    levels = ["half of the real images replaced by generated ones", "none"]
    found = pd.DataFrame({"level": levels, "mean": [-0.2, 0.3], "low": [-0.4, None], "high": [0.1, None]})
    (axis,) = charts.levels(found.assign(factor="a", claim=claims), "points", differences=True).axes
    assert [text.get_text() for text in axis.texts] == ["\N{MINUS SIGN}0.20", "+0.30"]
    labels = axis.get_yticklabels()
    assert labels[0].get_text() == "half of the real images replaced\nby generated ones"
    assert [label.get_fontweight() == "bold" for label in labels] == claims
    colours = [points.get_color() for points in axis.get_lines() if points.get_marker() == "o"]
    assert [colour == charts.CLAIM for colour in colours] == claims


def test_a_panels_title_does_not_touch_the_scale_above_it():
    """Regression: the axis of one panel ran into the title of the next."""
    found = pd.DataFrame({"factor": ["a", "b"], "level": "x", "mean": [-7.5, 0.2], "low": [-9.0, 0], "high": [7.0, 1]})
    figure = charts.levels(found, "points", differences=True)
    upper, lower = figure.axes
    *ticks, title = boxes(figure, [*upper.get_xticklabels(), lower._left_title])
    assert min(tick.y0 for tick in ticks) > title.y1 + 5


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("n", [1, 7])
def test_saved_images_come_back_byte_for_byte_with_labels_and_names(channels, n, monkeypatch):
    saved = images(("Größe", "007", *"abcde"), channels=channels)[torch.arange(n)]
    monkeypatch.setattr(galleries, "PUBLISHED", galleries.save_images(saved, "real-mnist-quick").parent)
    back = galleries.load_images("real-mnist-quick")
    assert torch.equal(back.x, saved.x)
    assert torch.equal(back.y, saved.y)
    assert back.classes == saved.classes


def test_published_images_are_found_by_their_study(tmp_path, monkeypatch):
    """Regression: after `make study` its own images counted as published ones."""
    assert galleries.names("real") == sorted(set(registry()) & set(galleries.names("generated")))
    assert len(galleries.load_images("real-table_1")) == 100
    for name in ("real-table_1", "generated-table_1", "real-mnist5k-first"):
        (tmp_path / f"{name}.png").touch()
    monkeypatch.setattr(galleries, "PUBLISHED", tmp_path)
    assert galleries.names("real") == ["table_1"]
