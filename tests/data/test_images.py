import re

import numpy as np
import pytest
import torch

from rag_lib.data.images import Images, concat, stratified_split

CLASSES = ("a", "b", "c")


def some_images(n: int, size: int = 4, channels: int = 1, seed: int = 0) -> Images:
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.integers(0, 256, (n, channels, size, size), dtype=np.uint8))
    return Images(x, torch.from_numpy(rng.integers(0, len(CLASSES), n)), CLASSES)


def labels(*counts: int, seed: int = 0) -> torch.Tensor:
    """So many labels of each class, in random order."""
    y = np.repeat(np.arange(len(counts)), counts)
    return torch.from_numpy(np.random.default_rng(seed).permutation(y))


def per_class(y: torch.Tensor, index: torch.Tensor) -> list[int]:
    return np.bincount(y.numpy()[index.numpy()], minlength=int(y.max()) + 1).tolist()


@pytest.mark.parametrize(
    ("x", "y", "part"),
    [
        (torch.zeros(2, 1, 4, 4), torch.zeros(2).long(), "x is torch.float32"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.int8), torch.zeros(2).long(), "x is torch.int8"),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), torch.zeros(2).long(), "shape (2, 4, 4)"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2), "y is torch.float32"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int32), "y is torch.int32"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(3).long(), "shape (3,)"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, 1).long(), "shape (2, 1)"),
    ],
)
def test_another_dtype_or_shape_is_refused(x, y, part):
    with pytest.raises(TypeError, match=r"\A.*" + re.escape(part) + r".*it must be .*\Z"):
        Images(x, y, CLASSES)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (torch.tensor([4, 0, 4]), [4, 0, 4]),
        (slice(1, 3), [1, 2]),
        (slice(None, None, 2), [0, 2, 4]),
        (torch.tensor([True, False, False, True, False]), [0, 3]),
        (torch.tensor([], dtype=torch.int64), []),
    ],
    ids=["indices", "slice", "strided", "mask", "empty"],
)
def test_a_subset_keeps_images_with_their_labels_and_classes(index, expected):
    images = some_images(5)
    subset = images[index]
    np.testing.assert_array_equal(subset.x.numpy(), images.x.numpy()[expected])
    np.testing.assert_array_equal(subset.y.numpy(), images.y.numpy()[expected])
    assert (len(subset), subset.classes) == (len(expected), CLASSES)


def test_a_single_index_is_refused_because_it_is_no_set_of_images():
    with pytest.raises(TypeError, match="it must be uint8, N x C x H x W"):
        some_images(5)[2]


def test_images_move_to_a_device_with_their_labels():
    moved = some_images(3).to("meta")
    assert (moved.x.device.type, moved.y.device.type, moved.classes) == ("meta", "meta", CLASSES)


def test_concat_puts_the_second_images_behind_the_first():
    a, b = some_images(3, seed=1), some_images(2, seed=2)
    joined = concat(a, b)
    np.testing.assert_array_equal(joined.x.numpy(), np.concatenate([a.x.numpy(), b.x.numpy()]))
    assert joined.y.tolist() == a.y.tolist() + b.y.tolist()
    assert joined.classes == CLASSES


@pytest.mark.parametrize("classes", [("a", "b"), ("c", "b", "a"), ("a", "b", "d")])
def test_concat_refuses_other_classes(classes):
    a = some_images(3)
    b = Images(a.x, torch.zeros(3).long(), classes)
    with pytest.raises(ValueError, match=r"\Aimages of different classes cannot be joined: .*\Z"):
        concat(a, b)


@pytest.mark.parametrize(
    ("size", "target", "before", "after"), [(28, 32, 2, 2), (28, 28, 0, 0), (4, 7, 1, 2), (5, 8, 1, 2), (4, 10, 3, 3)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_padding_keeps_the_centre_and_reflects_around_it(size, target, before, after, channels):
    images = some_images(3, size, channels)
    padded = images.padded_to(target)
    widths = ((0, 0), (0, 0), (before, after), (before, after))
    np.testing.assert_array_equal(padded.x.numpy(), np.pad(images.x.numpy(), widths, mode="reflect"))
    assert padded.x.dtype == torch.uint8
    assert padded.y.tolist() == images.y.tolist()


def test_padding_is_exact_for_every_pixel_value():
    x = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    padded = Images(x, torch.zeros(1).long(), CLASSES).padded_to(20)
    assert padded.x[0, 0, 2:18, 2:18].flatten().tolist() == list(range(256))


@pytest.mark.parametrize(
    ("counts", "sizes"),
    [((50, 30, 20), (20, 10)), ((7, 7, 7), (5, 2)), ((97, 3), (10, 10)), ((3, 3), (1, 0)), ((9,), (4,))],
)
def test_the_parts_of_a_split_are_disjoint_sorted_and_cover_all(counts, sizes):
    y = labels(*counts)
    parts = stratified_split(y, sizes, seed=0)
    assert len(parts) == len(sizes) + 1
    assert sorted(torch.cat(parts).tolist()) == list(range(len(y)))
    assert all(part.tolist() == sorted(part.tolist()) for part in parts)


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
)
def test_a_split_keeps_the_classes_proportions_with_at_least_one_each(counts, sizes, expected):
    y = labels(*counts)
    assert [per_class(y, part) for part in stratified_split(y, sizes, seed=3, at_least=1)] == expected


def test_without_a_minimum_a_part_has_just_the_size_asked_for():
    y = labels(28, *[1] * 29)
    half, rest = stratified_split(y, (28,), seed=0)
    assert (len(half), len(rest)) == (28, 29)


def test_a_split_is_the_same_for_a_seed_whatever_the_global_generator():
    y = labels(40, 60)
    first = stratified_split(y, (20, 10), seed=1)
    torch.manual_seed(123)
    before = torch.get_rng_state()
    second = stratified_split(y, (20, 10), seed=1)
    assert [a.tolist() for a in first] == [b.tolist() for b in second]
    assert torch.equal(before, torch.get_rng_state())


def test_a_split_differs_for_another_seed():
    y = labels(40, 60)
    parts = {tuple(stratified_split(y, (20,), seed)[0].tolist()) for seed in range(5)}
    assert len(parts) == 5


def test_a_split_draws_from_all_of_a_class_not_its_first_images():
    first = stratified_split(labels(100, 100), (20,), seed=0)[0]
    assert int(first.max()) > 150
    assert int(first.min()) < 50


def test_a_split_is_pinned_because_it_is_part_of_a_runs_identity():
    parts = stratified_split(torch.tensor([0, 1] * 6), (4, 2), seed=0)
    assert [part.tolist() for part in parts] == [[1, 4, 7, 10], [6, 11], [0, 2, 3, 5, 8, 9]]
