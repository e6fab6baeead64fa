"""Tables to figures. Nothing here computes: what a figure shows came from a run."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rag_lib.settings.arms import ARMS, arm_order, parse_arm

BLUE, ORANGE, CLAIM, GREY = "#0072B2", "#E69F00", "#D55E00", "#595959"
SMALL = 9  # points; of numbers, and of names beside images


def gan_curves(history: pd.DataFrame) -> Figure:
    """Draw both losses, what D thinks of real and of generated images, and their diversity, over the iterations."""
    figure, axes = plt.subplots(1, 3, figsize=(13.2, 3.4), layout="constrained")
    panels = {
        "Losses": ("loss (nats)", {"loss_d": "discriminator", "loss_g": "generator"}),
        "D's belief that an image is real": ("mean of sigmoid(D)", {"d_real": "real images", "d_fake": "generated"}),
        "Diversity within a class": ("generated / real", {"diversity": "all", "diversity_lowest": "the lowest class"}),
    }
    for axis, (title, (ylabel, lines)) in zip(axes, panels.items(), strict=True):
        for (column, label), colour in zip(lines.items(), (BLUE, ORANGE), strict=True):
            marker = "." if len(history) == 1 else ""  # a line needs two
            axis.plot(history["step"], history[column], marker=marker, label=label, color=colour)
        axis.legend(handles=axis.get_lines(), frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)
        axis.set(xlabel="iterations", ylabel=ylabel, title=title)
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    for axis, at, text, limits in ((axes[1], 0.5, "cannot\ntell", (0, 1)), (axes[2], 1, "as\ndiverse", (0, None))):
        axis.axhline(at, color=GREY, linestyle=":")
        axis.text(1.01, at, text, transform=axis.get_yaxis_transform(), va="center", fontsize=SMALL, color=GREY)
        axis.set_ylim(limits)
    return figure


def colours_of(arms: list[str]) -> dict[str, tuple | str]:
    """Return a colour for each arm: its own, or for a variant one that is no arm's."""
    spare = iter(sns.husl_palette(len(arms), s=0.5))
    return {arm: ARMS[arm].colour if arm in ARMS else next(spare) for arm in arms}


def accuracy_points(table: pd.DataFrame) -> Figure:
    """Draw test accuracy by classifier and arm: a point a run, a bar at the arms' means."""
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


# what a table's lines run over, as the axis says it
OVER = {"data.n_real": "real images in total", "step": "steps of the classifier"}


def accuracies(found: pd.DataFrame, x: str = "data.n_real") -> Figure:
    """Draw accuracy against `x`, a column named in `OVER`, a line an arm, with `statistics.intervals` by both.

    Arms of generated images alone have a panel of their own: on one scale with the others they would flatten these.
    """
    panels = found.groupby(found["arm"].str.startswith("generated"))
    colours = colours_of(arm_order(found["arm"]))
    size = 1.0 + 4.4 * len(panels), 4.4
    figure, axes = plt.subplots(1, len(panels), squeeze=False, figsize=size, layout="constrained")
    for axis, (alone, of_panel) in zip(axes[0], panels, strict=True):
        _over(axis, of_panel, colours, x, found[x])
        axis.set_title("generated images alone" if alone else "real images, with or without generated ones", loc="left")
        lowest, highest = axis.get_ylim()
        axis.set_ylim(max(0, lowest), min(100, highest))  # an interval may reach beyond what an accuracy can be
    axes[0, 0].set_ylabel("accuracy on real test images (%)")
    figure.legend(title="trained on", frameon=False, loc="outside lower center", ncols=min(5, found["arm"].nunique()))
    return figure


def effects(found: pd.DataFrame, labels: dict[str, str], x: str = "data.n_real") -> Figure:
    """Draw what changes bring, in points, against `x`, a column named in `OVER`, with intervals; 0 changes nothing.

    A panel a change, each with a scale of its own, so that a small one is seen beside a large one.
    `found`: one classifier's `statistics.contrasts` by `x`; `labels`: the changes, by their arm.
    """
    figure, axes = plt.subplots(1, len(labels), squeeze=False, figsize=(4.6 * len(labels), 3.8), layout="constrained")
    for axis, (arm, label) in zip(axes[0], labels.items(), strict=True):
        axis.axhline(0, color="black", linewidth=1)
        _over(axis, found[found["arm"] == arm], {arm: ARMS[parse_arm(arm)[0]].colour}, x, found[x])
        axis.set_title(label, loc="left")
    axes[0, 0].set_ylabel("change in accuracy (points)")
    return figure


def _over(axis, found: pd.DataFrame, colours: dict[str, tuple | str], x: str, every: pd.Series) -> None:
    """Draw a line an arm over `x`, side by side, so that their bars can be told apart; `every`: what `x` may be."""
    arms = found.groupby("arm", sort=False)
    for i, (arm, rows) in enumerate(arms):
        rows = rows.sort_values(x)
        bars = (rows["mean"] - rows["low"], rows["high"] - rows["mean"])
        beside = 1.04 ** (i - (len(arms) - 1) / 2)
        axis.errorbar(rows[x] * beside, rows["mean"], yerr=bars, fmt="o-", capsize=3, color=colours[arm], label=arm)
    ticks = sorted(every.unique())
    axis.set_xscale("log")
    axis.set_xticks(ticks, [f"{n:,}" for n in ticks])
    axis.minorticks_off()
    axis.set(xlabel=OVER[x], xlim=(ticks[0] / 1.5, ticks[-1] * 1.5))


def levels(found: pd.DataFrame, xlabel: str, differences: bool = False) -> Figure:
    """Draw a panel a factor, a line a level, the number at its right: `found` has `mean`, `low`, `high` by both.

    `differences`: from something at 0, which is marked, and each panel has a scale of its own.
    A column `claim` marks the rows that stand out.
    """
    counts = found.groupby("factor", sort=False).size()
    figure, axes = plt.subplots(
        len(counts), 1, sharex=not differences, squeeze=False,
        figsize=(7.6, 0.36 * len(found) + (0.85 if differences else 0.55) * len(counts) + 0.4),
        gridspec_kw={"height_ratios": counts}, layout="constrained",
    )  # fmt: skip
    for axis, (factor, rows) in zip(axes[:, 0], found.groupby("factor", sort=False), strict=True):
        axis.set_yticks(range(len(rows)), [wrapped(level, width=34) for level in rows["level"]])
        for i, row in enumerate(rows.to_dict("records")):
            mean, claim = row["mean"], row.get("claim", False)
            bar = [[mean - row["low"]], [row["high"] - mean]]
            axis.errorbar(mean, i, xerr=bar, fmt="o", capsize=3, elinewidth=2, color=CLAIM if claim else BLUE)
            number = f"{mean:+.2f}" if differences else f"{mean:.2f}"
            axis.annotate(
                number.replace("-", "\N{MINUS SIGN}"), (1, i), (40, 0), xycoords=axis.get_yaxis_transform(),
                textcoords="offset points", ha="right", va="center", fontsize=SMALL, color=GREY,
            )  # fmt: skip
            axis.get_yticklabels()[i].set_fontweight("bold" if claim else "normal")
        axis.set_ylim(len(rows) - 0.5, -0.5)  # the first level on top
        if differences:
            axis.axvline(0, color="black", linewidth=1)
        axis.xaxis.set_major_locator(MaxNLocator(9, steps=[1, 2, 5, 10]))
        axis.grid(color="#E4E4E4")
        axis.set_title(factor, loc="left", pad=8)
    axes[-1, 0].set(xlabel=xlabel)
    return figure


def wrapped(name: str, width: int = 14, lines: int = 2) -> str:
    """Return a class's name in lines of some `width` letters, at most so many."""
    return "\n".join(textwrap.wrap(name, width, max_lines=lines, placeholder="…"))


def confusion(counts: pd.DataFrame, title: str, rows: str = "true", columns: str = "predicted") -> Figure:
    """Draw counts of classes against classes; the diagonal is grey, so that the errors show."""
    k = len(counts)
    readable = min(k, 20)  # more classes: the same picture in colours only
    size = (max(0.55 * readable + 2, 5), max(0.5 * readable + 1.4, 4))
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    how = {"annot": counts, "fmt": "d", "linewidths": 0.5, "annot_kws": {"size": SMALL}, "cbar": False}
    how = how if k == readable else {"cbar_kws": {"label": "images"}}
    sns.heatmap(counts.mask(np.eye(k, dtype=bool)), cmap="Blues", vmin=0, ax=axis, **how)
    axis.set_facecolor("#DDDDDD")  # of the cells that are left out
    if k == readable:
        for i in range(k):
            axis.text(i + 0.5, i + 0.5, f"{counts.iloc[i, i]}", ha="center", va="center", fontsize=SMALL)
        turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axis.set_xticklabels(map(wrapped, counts.columns), **turned if max(map(len, counts.columns)) > 4 else {})
        axis.set_yticklabels(map(wrapped, counts.index), rotation=0)
    axis.set(xlabel=columns, ylabel=rows)
    axis.grid(False)  # it would strike out the numbers on the diagonal
    figure.suptitle(f"{title}\nnumber of images; grey: both agree")
    return figure
