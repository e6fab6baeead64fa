"""Tables to figures. Nothing here computes: what a figure shows came from a run."""

import textwrap
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from rag_lib.arms import arm_order
from rag_lib.config import ARMS
from rag_lib.paths import results_dir

# Okabe and Ito's colours, which the colour-blind tell apart, but for their yellow, too pale on white; and a grey
_OKABE_ITO = ("#E69F00", "#0072B2", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000", "#999933", "#808080")
COLOURS = dict(zip(ARMS, _OKABE_ITO, strict=True))


def use_style() -> None:
    """The study's look; the same file bytes on every run."""
    sns.set_theme(style="whitegrid", context="notebook", palette="colorblind")
    # names of classes may come in any script; the first font that is installed and has the letters is taken
    fonts = ["DejaVu Sans", "Noto Sans CJK SC", "Noto Sans", "Noto Sans Devanagari", "Noto Sans Thai"]
    fonts += ["Microsoft YaHei", "Malgun Gothic", "Nirmala UI", "PingFang SC", "Hiragino Sans", "Arial Unicode MS"]
    installed = {font.name for font in mpl.font_manager.fontManager.ttflist}
    mpl.rcParams.update(
        {
            "figure.dpi": 100,
            "savefig.dpi": 200,
            "svg.hashsalt": "rag_lib",
            "font.family": [f for f in fonts if f in installed],
            "text.parse_math": False,  # a class may be named $5
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    )


def save(figure: Figure, name: str) -> Path:
    """Writes `results/figures/<name>.png` and `.svg`; returns the first."""
    folder = results_dir() / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
    figure.savefig(folder / f"{name}.png", bbox_inches="tight")
    return folder / f"{name}.png"


def gan_curves(history: pd.DataFrame, samples: Path | None = None) -> Figure:
    """Both losses, what D thinks of real and of generated images, and their diversity, over the iterations.

    `samples`: a picture to show below them, `step-000250.png` or the like.
    """
    figure, axes = plt.subplots(1, 3, figsize=(13.2, 3.4))
    panels = (
        ("Losses", "loss (nats)", {"loss_d": "discriminator", "loss_g": "generator"}),
        (
            "D's belief that an image is real",
            "mean of sigmoid(D)",
            {"d_real": "of real images", "d_fake": "of generated"},
        ),
        (
            "Diversity within a class",
            "generated / real",
            {"diversity": "all classes", "diversity_lowest": "the lowest"},
        ),
    )
    for axis, (title, ylabel, lines) in zip(axes, panels, strict=False):
        for (column, label), colour in zip(lines.items(), ("#0072B2", "#E69F00"), strict=False):
            if column in history:  # runs of older versions have no diversity
                marker = "." if len(history) == 1 else ""  # a line needs two
                axis.plot(history["step"], history[column], marker=marker, label=label, color=colour)
        axis.set(xlabel="iterations", ylabel=ylabel, title=title)
    axes[1].axhline(0.5, color="grey", linestyle=":", label="cannot tell")
    axes[1].set(ylim=(0, 1))
    axes[2].axhline(1, color="grey", linestyle=":", label="as diverse")
    axes[2].set(ylim=(0, None))
    for axis in axes:
        axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=3, fontsize=10)
    figure.tight_layout()
    if samples is not None:  # below, so that the curves stay where they are
        axis = figure.add_axes((0.04, -0.62, 0.94, 0.5))
        axis.imshow(plt.imread(samples))
        axis.axis("off")
        axis.set_title(f"Samples at iteration {step_of(samples):,}")
    return figure


def step_of(samples: Path) -> int:
    """The iteration that `step-000250.png` shows."""
    return int(samples.stem.removeprefix("step-"))


def colours_of(arms: list[str]) -> dict[str, tuple | str]:
    """A colour for each arm, always the same one for those with a name of their own."""
    return dict(zip(arms, sns.color_palette("colorblind", len(arms)), strict=True)) | COLOURS


def accuracy_points(table: pd.DataFrame) -> Figure:
    """Test accuracy by classifier and arm: a point a run, a bar at the arms' means."""
    classifiers = list(table["classifier"].unique())
    arms = arm_order(table["arm"])
    colours = colours_of(arms)
    figure, axis = plt.subplots(figsize=(1.8 + max(2.4, 0.6 * len(arms)) * len(classifiers), 4))
    shared = {"data": table, "x": "classifier", "y": "test_accuracy", "hue": "arm", "hue_order": arms, "ax": axis}
    state = np.random.get_state()
    np.random.seed(0)  # seaborn draws the jitter from numpy's global generator; the figure must not change by itself
    sns.stripplot(**shared, dodge=True, jitter=0.12, size=7, palette=colours, alpha=0.85)
    np.random.set_state(state)
    sns.pointplot(
        **shared, dodge=0.8 * (1 - 1 / len(arms)) if len(arms) > 1 else False, linestyle="none", errorbar=None,
        marker="_", markersize=26, markeredgewidth=2.5, palette=colours, legend=False,
    )  # fmt: skip
    axis.set(xlabel="", ylabel="accuracy on real test images (%)")
    sns.move_legend(axis, "upper left", bbox_to_anchor=(1, 1), title="trained on", frameon=False)
    figure.tight_layout()
    return figure


def low_data(found: pd.DataFrame) -> Figure:
    """Accuracy against the number of real images, a line an arm, with `statistics.intervals` by both."""
    figure, axis = plt.subplots(figsize=(7.2, 4.2))
    sizes = sorted(found["data.n_real"].unique())
    colours = colours_of(arm_order(found["arm"]))
    arms = found["arm"].unique()
    for i, arm in enumerate(arms):
        rows = found[found["arm"] == arm].sort_values("data.n_real")
        _with_bars(axis, rows, shift=i - (len(arms) - 1) / 2, color=colours[arm], label=arm)
    _of_sizes(axis, sizes)
    axis.set_ylabel("accuracy on real test images (%)")
    lowest, highest = axis.get_ylim()
    axis.set_ylim(max(0, lowest), min(100, highest))  # an interval may reach beyond what an accuracy can be
    axis.legend(title="trained on", frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    return figure


def effects(found: pd.DataFrame, labels: dict[str, str]) -> Figure:
    """What changes bring, in points, against the number of real images, with intervals; 0 changes nothing.

    A panel a change, each with a scale of its own, so that a small one is seen beside a large one.
    `found`: one classifier's `statistics.contrasts` by the number of real images; `labels`: the changes, by their arm.
    """
    figure, axes = plt.subplots(1, len(labels), squeeze=False, figsize=(4.6 * len(labels), 3.8), layout="constrained")
    for axis, (arm, label) in zip(axes[0], labels.items(), strict=True):
        axis.axhline(0, color="black", linewidth=1)
        _with_bars(axis, found[found["arm"] == arm].sort_values("data.n_real"), color=COLOURS[arm.partition(":")[0]])
        _of_sizes(axis, sorted(found["data.n_real"].unique()))
        axis.set_title(label, loc="left", fontsize=11)
    axes[0, 0].set_ylabel("change in accuracy (points)")
    return figure


def _with_bars(axis, rows: pd.DataFrame, shift: float = 0.0, **style) -> None:
    """A line over the number of real images; `shift` sets lines side by side, so that their bars can be told apart."""
    bars = (rows["mean"] - rows["low"], rows["high"] - rows["mean"])
    axis.errorbar(rows["data.n_real"] * 1.04**shift, rows["mean"], yerr=bars, fmt="o-", capsize=3, **style)


def _of_sizes(axis, sizes: list[int]) -> None:
    axis.set_xscale("log")
    axis.set_xticks(sizes, [f"{n:,}" for n in sizes])
    axis.minorticks_off()
    axis.set_xlabel("real images in total")
    axis.set_xlim(min(sizes) / 1.5, max(sizes) * 1.5)


def levels(found: pd.DataFrame, xlabel: str, differences: bool = False) -> Figure:
    """A panel a factor, a line a level: `found` has `mean`, `low` and `high` by `factor` and `level`.

    `differences`: from something at 0, which is marked, and each panel has a scale of its own.
    """
    counts = found.groupby("factor", sort=False).size()
    figure, axes = plt.subplots(
        len(counts), 1, sharex=not differences, squeeze=False,
        figsize=(7.2, 0.42 * len(found) + (0.8 if differences else 0.5) * len(counts) + 0.6),
        gridspec_kw={"height_ratios": counts}, layout="constrained",
    )  # fmt: skip
    for axis, (factor, rows) in zip(axes[:, 0], found.groupby("factor", sort=False), strict=True):
        bars = (rows["mean"] - rows["low"], rows["high"] - rows["mean"])
        axis.errorbar(rows["mean"], rows["level"], xerr=bars, fmt="o", capsize=3, color="#0072B2")
        axis.set_ylim(len(rows) - 0.5, -0.5)  # the first level on top
        if differences:
            axis.axvline(0, color="black", linewidth=1)
        axis.set_title(factor, loc="left", fontsize=11)
    axes[-1, 0].set(xlabel=xlabel)
    return figure


def wrapped(name: str, width: int = 14, lines: int = 2) -> str:
    """A class's name in lines of some `width` letters, at most so many."""
    return "\n".join(textwrap.wrap(name, width, max_lines=lines, placeholder="…"))


def confusion(counts: pd.DataFrame, title: str, rows: str = "true", columns: str = "predicted") -> Figure:
    """Counts of classes against classes; the diagonal is left out of the colours, so that the errors show."""
    k = len(counts)
    readable = min(k, 20)  # more classes: the same picture in colours only
    size = (max(0.55 * readable + 2, 5), max(0.5 * readable + 1.4, 4))
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    errors = counts.mask(np.eye(k, dtype=bool))
    annotated = {"annot": counts, "fmt": "d", "linewidths": 0.5, "annot_kws": {"size": 9}} if k == readable else {}
    sns.heatmap(errors, cmap="Blues", vmin=0, ax=axis, cbar=not annotated, **annotated)
    for i in range(k if annotated else 0):
        axis.text(i + 0.5, i + 0.5, f"{counts.iloc[i, i]}", ha="center", va="center", fontsize=9, color="grey")
    if annotated:
        turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axis.set_xticklabels(map(wrapped, counts.columns), **turned if max(map(len, counts.columns)) > 4 else {})
        axis.set_yticklabels(map(wrapped, counts.index), rotation=0)
    axis.set(xlabel=columns, ylabel=rows)
    axis.grid(False)  # it would strike out the numbers on the diagonal
    figure.suptitle(title, fontsize=12)
    return figure
