"""What the README promises: its code runs, its links lead somewhere, its table is the published one."""

import re

import pandas as pd
import pytest
import torch
from torch.utils.data import TensorDataset

from rag_lib import study
from rag_lib.paths import ROOT
from rag_lib.presets import resolve

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_five_lines_for_ones_own_training_code_run(digits):
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)
    run = study.run_gan(resolve(preset="smoke"), digits)
    code = re.sub(r'load_generator\("[^"]+"\)', f"load_generator({str(run.folder)!r})", code)
    names = {"your_dataset": TensorDataset(torch.rand(100, 1, 28, 28), torch.zeros(100, dtype=torch.int64))}
    exec(code, names)
    x, y = next(iter(names["loader"]))
    assert len(names["loader"].dataset) == 10_100
    assert x.shape == (64, 1, 28, 28)
    assert 0 <= x.min() < x.max() <= 1
    assert y.dtype == torch.int64


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", TEXT))))
def test_links_lead_to_files_of_the_repository(target):
    assert (ROOT / target).exists()


def test_the_table_is_computed_from_the_published_one():
    table = pd.read_csv(ROOT / "results" / "tables" / "classify.csv").query("dataset == 'mnist'")
    means = study.summary(table)
    for classifier, row in means.iterrows():
        (line,) = [line for line in TEXT.splitlines() if line.startswith(f"| {classifier} |")]
        ours = [float(cell) for cell in re.findall(r"\*\*([\d.]+)\*\*", line)]
        assert ours == [row.generated, row.original, row.mixed]


def test_published_rows_have_their_provenance():
    folder = ROOT / "results" / "tables"
    rows, provenance = (pd.read_csv(folder / f"{name}.csv") for name in ("classify", "classify_provenance"))
    assert list(rows["run_id"]) == list(provenance["run_id"])
    assert provenance[["commit", "torch", "torchvision", "device", "threads", "precision", "seconds"]].notna().all(None)
    assert not provenance["commit"].str.contains("changes|unknown").any()
