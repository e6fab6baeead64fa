"""Print the generated blocks of the documentation: every measured number comes from results/tables.

A block of a Markdown file is the line `<!--[[[cog docs.benchmark() ]]]-->`, what this prints, and the line
`<!--[[[end]]]-->`; `make docs` prints all of them anew. A word that claims something is guarded by `claim` beside it.
"""

import textwrap

import pandas as pd
from docs_settings import arms, deltas, links, settings, table  # noqa: F401 (the blocks call them as this module's)

from rag_lib.analysis import published
from rag_lib.analysis.answers import claim, verdict
from rag_lib.analysis.statistics import contrasts, estimate
from rag_lib.analysis.tables import interval_table
from rag_lib.base import results_dir


def text(*sentences: str, indent: str = "") -> None:
    """Print a paragraph; `indent`: of its further lines."""
    whole = " ".join(sentences)
    print(textwrap.fill(whole, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False))


def frame(found: pd.DataFrame) -> None:
    """Print a table of pandas as Markdown, its index as the first columns."""
    found = found.reset_index()
    table(list(found.columns), found.astype(str).itertuples(index=False))


def change(row: dict, unit: str = " points") -> str:
    """Return a paired difference of `statistics.contrasts` with its interval."""
    return estimate(row["mean"], row["low"], row["high"], unit=unit)


def measured(name: str) -> pd.DataFrame:
    """Return a table of results/tables that is no study's."""
    return pd.read_csv(results_dir() / "tables" / f"{name}.csv")


def rare_classes() -> None:
    """Print the accuracies of the example of rare classes."""
    rows, plain = (published.study(name).rows for name in ("rare_classes", "rare_classes_plain"))
    without = "balanced`, without `gan.oversample"
    rows = pd.concat([rows, plain[plain["arm"] == "balanced"].assign(arm=without)])
    found = interval_table(rows, ["arm"]).loc[["original", "oversampled", "balanced", without]]
    frame(found.drop(columns="replicates").rename("`{}`".format))


def rare_classes_verdict() -> None:
    """Print what generated images of rare classes do, and how many of them the judge recognises."""
    names = ("rare_classes", "rare_classes_plain")
    with_it, plain = (verdict(name, "balanced") for name in names)
    seen, seen_plain = (published.study(name).quality["gan_test_accuracy"].mean() for name in names)
    claim("generated images of rare classes hurt", with_it["answer"] == plain["answer"] == "hurts")
    claim("they hurt more without gan.oversample", plain["high"] < with_it["low"])
    claim("a judge recognises more with gan.oversample", seen > seen_plain)
    text(
        f"Compared with repeated real digits, generated digits of the rare classes hurt: {change(with_it)}.",
        f"Without `gan.oversample` they hurt more: {change(plain)}.",
        "Such a GAN sees each rare digit in about one of a hundred images.",
        f"A judge then recognises the requested digit in {seen_plain:.2f}% of the generated images.",
        f"With `gan.oversample` it recognises {seen:.2f}%.",
    )


def unseen_duplicates() -> None:
    """Print how often unseen real images are as close to training images as a duplicate."""
    rate = published.table("quality")["duplicate_rate_unseen"]
    text(
        f"Of unseen real images {rate.min():.1%} to {rate.max():.1%} would count as duplicates, by their number.",
        "A clearly higher `duplicate_rate` suggests copies.",
    )


def durations() -> None:
    """Print how long the trainings of published studies took, a replicate."""
    seconds = published.table("classify_provenance").set_index("run_id")
    rows = []
    for name, words in (
        ("first", "`first`, `mnist5k`"),
        ("in_minutes", "`quick`, `mnist5k`"),
        ("rare_classes", "`short`, the [example of rare classes](own-images.md#example-rare-classes)"),
        ("attention", "`short`, `mnist`, five attentions"),
        ("half_of_600", "`quick`, 600 images of `mnist`"),
        ("cifar10", "`best`, `cifar10_jpeg`, `cnn` and `fast_cnn`"),
        ("paper", "`paper`, `mnist`, `cnn` alone"),
    ):
        study = published.study(name)
        of_runs = seconds.loc[study.rows["run_id"].unique()]
        n = study.rows["replicate"].nunique()
        minutes = [total / 60 / n for total in (study.quality["gan_seconds"].sum(), of_runs["seconds"].sum())]
        threads = " or ".join(map(str, sorted(of_runs["threads"].unique())))
        rows.append((words, study.rows["arm"].nunique(), n, threads, *(f"{m:.0f}" for m in minutes)))
    table(
        ["study", "arms", "replicates", "threads a classifier", "generators (minutes)", "classifiers (minutes)"], rows
    )


def precision() -> None:
    """Print what bfloat16 does to accuracy."""
    parts = {name: published.study(name).rows for name in ("bf16", "fp32")}
    rows = pd.concat([rows.assign(group=rows["arm"], arm=n, replicate=rows["seed"]) for n, rows in parts.items()])
    found = contrasts(rows, ["group"], named={"": ("bf16", "fp32")}).set_index("group")
    real, mixed, generated = (found.loc[arm] for arm in ("original", "mixed", "generated"))
    claim("accuracy is lower in bfloat16 with generated images", mixed["mean"] < 0 and generated["mean"] < 0)
    text(
        f"On real images bfloat16 changes `cnn`'s accuracy on MNIST by {change(real)}, over {real['n']} seeds",
        f"of one draw. With generated images accuracy is lower: by {-mixed['mean']:.2f} points for `mixed`",
        f"and by {-generated['mean']:.2f} for `generated`. Each precision has one generator of its own there, so this",
        "difference may be chance.",
    )


def benchmark() -> None:
    """Print for each kind of processor where the benchmark ran, and its speeds."""
    heads = {"bf16": {"plain": "× plain", "plain_bf16": "× plain in bf16"}, "fp32": {"plain": "× plain"}}
    for precision, rivals in heads.items():
        found, name = measured(f"bench_{precision}"), {"bf16": "bfloat16", "fp32": "fp32"}[precision]
        (of,) = measured(f"bench_{precision}_provenance").to_dict("records")
        ratios = found[f"ratio_to_{list(rivals)[-1]}"]
        claim(f"our loops are faster than plain ones in {precision}", ratios.min() > 1)
        text(
            f"Our loops are {ratios.min():.2f} to {ratios.max():.2f} times as fast as plain ones in {name}.",
            f"Measured on {of['processor']}, {of['threads']} threads, batches of 64, torch {of['torch']}, at commit",
            f"{of['commit'][:7]} on {of['started'][:10]}.",
        )
        print()
        heading = ["what", "images/s", *rivals.values(), "× ignite", "share of peak", "spent on data"]
        rows = []
        for row in found.to_dict("records"):
            of_row = [row[f"ratio_to_{rival}"] for rival in (*rivals, "ignite")]
            cells = [f"{row['ours_images_per_s']:,.0f}", *("" if pd.isna(r) else f"{r:.2f}" for r in of_row)]
            rows.append((row["what"], *cells, f"{row['share_of_peak']:.0%}", f"{row['share_of_data']:.1%}"))
        table(heading, rows)
        print()
