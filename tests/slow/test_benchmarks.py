"""The benchmark measures the real loops; how fast they are is for `make bench` to say, not for a test."""

import sys

import pytest

from rag_lib.base import ROOT


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "benchmarks"))
    import bench

    monkeypatch.setattr(bench, "TURNS", 1)
    yield bench
    for name in ("bench", "costs", "plain"):
        sys.modules.pop(name, None)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["GAN, D with spectral norm, MNIST", "cnn, CIFAR-10"])
def test_a_workload_is_measured_against_its_rivals(bench, name):
    row = bench.measure(name, bench.workloads()[name])
    assert row["what"] == name
    for rival in ("plain", "plain_bf16"):
        ratio = row["ours_images_per_s"] / row[f"{rival}_images_per_s"]
        assert row[f"ratio_to_{rival}"] == pytest.approx(ratio, rel=0.01, abs=0.01)  # both are rounded
    assert 0 < row["share_of_peak"] < 1
    assert 0 < row["share_of_data"] < 1
    assert ("ratio_to_ignite" in row) == name.startswith("cnn")


def test_operations_are_counted_by_the_shapes(bench):
    """A check by hand: the small CNN's three convolutions and its linear layer, forward and backward."""
    config = bench.workloads()["cnn, MNIST"]
    forward = 2 * 64 * (28 * 28 * 32 * 9 + 14 * 14 * 64 * 32 * 9 + 7 * 7 * 128 * 64 * 9 + 128 * 10)
    first = 2 * 64 * 28 * 28 * 32 * 9  # needs no gradient of its input
    assert bench.operations(config) == pytest.approx(3 * forward - first, rel=0.01)
