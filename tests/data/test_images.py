"""Images as a value: subsets, unions, padding and splits."""

import re

import numpy as np
import pytest
import torch

from rag_lib.data.images import Images, concat, stratified_split

CLASSES = ("a", "b", "c")


def some_images(n: int, seed: int = 0) -> Images:
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.integers(0, 256, (n, 1, 4, 4), dtype=np.uint8))
    return Images(x, torch.from_numpy(rng.integers(0, len(CLASSES), n)), CLASSES)


def labels(*counts: int) -> torch.Tensor:
    """So many labels of each class, in random order."""
    return torch.from_numpy(np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts)))


X, Y = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("x", "y", "part"),
    [
        (X.float(), Y, "x is torch.float32"),
        (X[:, 0], Y, "shape (2, 4, 4)"),
        (X, Y.int(), "y is torch.int32"),
        (X, torch.zeros(3).long(), "shape (3,)"),
        (X, Y[:, None], "shape (2, 1)"),
    ],
)
def test_another_dtype_or_shape_is_refused(x, y, part):
    with pytest.raises(TypeError, match=r"\A.*" + re.escape(part) + r".*it must be .*\Z"):
        Images(x, y, CLASSES)


def test_images_move_to_a_device_with_their_labels():
    moved = some_images(3).to("meta")
    assert (moved.x.device.type, moved.y.device.type, moved.classes) == ("meta", "meta", CLASSES)


def test_concat_puts_the_second_images_behind_the_first():
    a, b = some_images(3, seed=1), some_images(2, seed=2)
    joined = concat(a, b)
    np.testing.assert_array_equal(joined.x.numpy(), np.concatenate([a.x.numpy(), b.x.numpy()]))
    assert (joined.y.tolist(), joined.classes) == (a.y.tolist() + b.y.tolist(), CLASSES)


@pytest.mark.parametrize("classes", [("a", "b"), ("c", "b", "a"), ("a", "b", "d")])
def test_concat_refuses_other_classes(classes):
    with pytest.raises(ValueError, match=r"\Aimages of different classes cannot be joined: .*\Z"):
        concat(Images(X, Y, CLASSES), Images(X, Y, classes))


@pytest.mark.parametrize(
    ("size", "target", "before", "after"), [(28, 32, 2, 2), (28, 28, 0, 0), (4, 7, 1, 2), (5, 8, 1, 2), (4, 10, 3, 3)]
)
def test_padding_keeps_the_centre_and_reflects_around_it(size, target, before, after):
    x = torch.arange(2 * 3 * size**2).to(torch.uint8).reshape(2, 3, size, size)  # of 28 pixels a side every value
    padded = Images(x, Y, CLASSES).padded_to(target)
    widths = ((0, 0), (0, 0), (before, after), (before, after))
    np.testing.assert_array_equal(padded.x.numpy(), np.pad(x.numpy(), widths, mode="reflect"))
    assert (padded.x.dtype, padded.y.tolist()) == (torch.uint8, [0, 0])


def test_digits_are_moved_to_a_centre_of_mass(digits):
    x = [x.roll((i % 5 - 2, i % 3 - 1), (1, 2)) for i, x in enumerate(digits.val.x[:50])]
    moved = Images(torch.stack(x), digits.val.y[:50], digits.val.classes)
    centred = moved.centred_on(torch.tensor([13.0, 14.0]))
    assert (centred.centres() - torch.tensor([13.0, 14.0])).abs().max() <= 0.51
    assert (moved.centres() - torch.tensor([13.0, 14.0])).abs().max() > 1
    of_first, pixels = moved.x[0, 0].double().numpy(), np.arange(28)
    by_hand = [of_first.sum(axis) @ pixels / of_first.sum() for axis in (1, 0)]
    assert moved.centres()[0].tolist() == pytest.approx(by_hand, abs=1e-3)
    assert torch.equal(centred.x.flatten(1).sort().values, moved.x.flatten(1).sort().values)


@pytest.mark.parametrize(
    ("counts", "sizes", "expected"),
    [
        ((50, 30, 20), (20, 10), [[10, 6, 4], [5, 3, 2], [35, 21, 14]]),
        ((500,) * 10, (1_000, 500), [[100] * 10, [50] * 10, [350] * 10]),
        ((10, 10, 10), (10,), [[4, 3, 3], [6, 7, 7]]),  # a third each, and the first class the one that is left over
        ((97, 3), (10, 10), [[10, 1], [10, 1], [77, 1]]),  # at least one of a rare class, on top of the size
        ((3, 3), (1, 0), [[1, 1], [1, 1], [1, 1]]),
        ((6, 0, 6), (4,), [[2, 0, 2], [4, 0, 4]]),  # nothing of a class that has no image
    ],
    ids=str,
)
def test_a_split_covers_all_in_the_classes_proportions(counts, sizes, expected):
    y = labels(*counts)
    parts = stratified_split(y, sizes, seed=3, at_least=1)
    assert [y[part].bincount(minlength=len(counts)).tolist() for part in parts] == expected
    assert sorted(torch.cat(parts).tolist()) == list(range(len(y)))
    assert all(part.tolist() == sorted(part.tolist()) for part in parts)


def test_a_split_is_pinned_because_it_is_part_of_a_runs_identity():
    before = torch.get_rng_state()
    parts = stratified_split(torch.tensor([0, 1] * 6), (4, 2), seed=0)
    assert [part.tolist() for part in parts] == [[1, 4, 7, 10], [6, 11], [0, 2, 3, 5, 8, 9]]
    assert torch.equal(before, torch.get_rng_state())
