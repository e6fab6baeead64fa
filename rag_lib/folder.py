"""Anyone's images: a folder, a zip or a tar with one subfolder a class, read once into `Images`."""

import hashlib
import json
import lzma
import os
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from safetensors import safe_open
from safetensors.torch import save_file

from rag_lib.errors import UserError
from rag_lib.images import Images
from rag_lib.paths import ROOT, results_dir

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
SPLIT_NAMES = {"train", "Train", "test", "Test", "val", "valid", "validation"}  # no names of classes
DECODER = 1  # bumped with any change of the pixels that `decode` returns

Layout = dict[str, tuple[str, str]]  # a file's name: (split, class)


def read(path: str | Path, channels: int, size: int, fingerprint: str) -> tuple[Images, Images | None]:
    """The training images and, where the folder has a `test` part, the test images.

    Accepts `PATH/train/<class>/*` with `PATH/test/<class>/*`, or `PATH/<class>/*`; PATH is a folder, a
    zip or a tar (any compression). Each image becomes `channels` x `size` x `size`, uint8: turned as its
    EXIF data say, transparency laid on white, 16 bits scaled to 8, the centre square resized. Decoded
    images are cached under `results/cache` by `fingerprint`. Raises `UserError` for a folder without two
    classes and for an image that cannot be read (by name).
    """
    cache = results_dir() / "cache" / f"images-{fingerprint[:16]}-{channels}x{size}-v{DECODER}.safetensors"
    if not cache.exists():
        layout, classes = layout_of(path)
        pixels = {name: decode(data, name, channels, size) for name, data in entries(path) if name in layout}
        tensors = {}
        for split in {split for split, _ in layout.values()}:
            # in the order of the names, which no file system or archiver changes
            names = sorted(name for name in layout if layout[name][0] == split)
            tensors[f"{split}_x"] = torch.from_numpy(np.ascontiguousarray([pixels[name] for name in names]))
            tensors[f"{split}_y"] = torch.tensor([classes.index(layout[name][1]) for name in names])
        cache.parent.mkdir(parents=True, exist_ok=True)
        temporary = cache.with_suffix(f".tmp{os.getpid()}")
        save_file(tensors, temporary, metadata={"classes": json.dumps(classes)})
        os.replace(temporary, cache)
    with safe_open(cache, "pt") as f:
        classes = tuple(json.loads(f.metadata()["classes"]))
        splits = {
            split: Images(f.get_tensor(f"{split}_x"), f.get_tensor(f"{split}_y"), classes)
            for split in ("train", "test")
            if f"{split}_x" in f.keys()  # noqa: SIM118 (safe_open is no dictionary)
        }
    return splits["train"], splits.get("test")


def fingerprint(path: str | Path) -> str:
    """SHA-256 of the images' names and bytes: the same for a folder, its copy and its archive.

    Says which files of the folder are ignored.
    """
    layout, _ = layout_of(path, say=True)
    parts = [
        (*layout[name], PurePosixPath(name).name, hashlib.sha256(data).hexdigest())
        for name, data in entries(path)
        if name in layout
    ]
    return hashlib.sha256(repr(sorted(parts)).encode()).hexdigest()


def layout_of(path: str | Path, say: bool = False) -> tuple[Layout, list[str]]:
    """Each image's split and class, and the classes in alphabetical order; on demand says which files are ignored."""
    names = list(file_names(path))
    images = [n for n in names if PurePosixPath(n).suffix.lower() in SUFFIXES and not hidden(n)]
    if not images:
        raise UserError(f"{path} holds no image; allowed are {', '.join(sorted(SUFFIXES))}")
    parts = {name: PurePosixPath(name).parts for name in images}
    # an archive often holds everything in one folder of its own name
    while len({p[0] for p in parts.values() if len(p) > 1}) == 1 and max(map(len, parts.values())) > 2:
        parts = {name: p[1:] if len(p) > 1 else p for name, p in parts.items()}
    top = {p[0] for p in parts.values() if len(p) > 1}
    split_folders = {p[0] for p in parts.values() if len(p) > 2} >= {"train", "test"}
    if not split_folders and top <= SPLIT_NAMES and len(top) > 1:
        found = ", ".join(sorted(top))
        raise UserError(f"{path} has the folders {found}; name them train and test, each with one subfolder a class")
    layout: Layout = {}
    for name, p in parts.items():
        if split_folders and len(p) > 2 and p[0] in ("train", "test"):
            layout[name] = (p[0], p[1])
        elif not split_folders and len(p) > 1:
            layout[name] = ("train", p[0])
    ignored = sorted(name for name in set(names) - set(layout) if not hidden(name))
    if say and ignored:
        print(f"{path}: {len(ignored)} files ignored that are no images of a class, such as {ignored[0]}")
    counts = Counter(layout.values())
    classes = sorted({label for split, label in counts if split == "train"})
    if len(classes) < 2:
        found = f"only the class {classes[0]!r}" if classes else "no class"
        raise UserError(f"{path} has {found}; put the images of each of at least two classes into a folder of its own")
    unknown = sorted({label for split, label in counts if split == "test"} - set(classes))
    if unknown:
        raise UserError(f"{path}: the class {unknown[0]!r} is in test but not in train; every class must be in train")
    needed = 2 if split_folders else 3  # one image for each of train, val and test
    for label in classes:
        if counts["train", label] < needed:
            n = counts["train", label]
            raise UserError(f"{path}: class {label!r} has {n} images to train on; it must have at least {needed}")
    return layout, classes


def decode(data: bytes, name: str, channels: int, size: int) -> np.ndarray:
    """One image file's bytes as uint8, `channels` x `size` x `size`; raises `UserError` naming `name`."""
    try:
        with Image.open(BytesIO(data)) as opened:
            image = ImageOps.exif_transpose(opened)
            if min(image.size) < size // 2:
                raise UserError(
                    f"{name} is {image.size[0]} x {image.size[1]} pixels; images must have at least {size // 2} a side"
                )
            if image.mode.startswith("I"):  # 16 bits, which Pillow would clip at 255
                image = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
            elif image.mode == "F":
                raise UserError(f"{name} has floating-point pixels; save it with 8 or 16 bits")
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert("L" if channels == 1 else "RGB")
            pixels = np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS))
    except UserError:
        raise
    except UnidentifiedImageError as e:
        raise UserError(f"{name} cannot be read as an image (its format is unknown); replace or remove it") from e
    except Exception as e:  # Pillow's readers raise errors of nearly every type for damaged files
        raise UserError(f"{name} cannot be read as an image ({e}); replace or remove it") from e
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def file_names(path: str | Path) -> Iterator[str]:
    return (name for name, _ in entries(path, with_data=False))


def entries(path: str | Path, with_data: bool = True) -> Iterator[tuple[str, bytes]]:
    """Name (relative, with slashes) and bytes of each regular file of a folder, a zip or a tar.

    A relative path starts at the repository. Nothing is unpacked to disk; an archive with a member that leads
    outside is refused all the same.
    """
    path = ROOT / Path(path).expanduser()
    try:
        if path.is_dir():
            for file in sorted(p for p in path.rglob("*") if p.is_file()):
                yield file.relative_to(path).as_posix(), file.read_bytes() if with_data else b""
        elif not path.exists():
            raise UserError(f"{path} does not exist; give a folder, a zip or a tar with one subfolder a class")
        elif zipfile.is_zipfile(path) and not tarfile.is_tarfile(path):
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    if not member.is_dir():
                        yield inside(member.filename, path), archive.read(member) if with_data else b""
        elif tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                files = set()
                for member in archive:
                    if member.isfile() or (member.islnk() and member.linkname in files):
                        files.add(member.name)
                        yield inside(member.name, path), archive.extractfile(member).read() if with_data else b""
                # tarfile takes a broken header for the end, and reads no compressed file to its checksum
                archive.fileobj.seek(archive.offset)
                if archive.fileobj.read(512) != bytes(512):
                    raise tarfile.ReadError("it has no end")
                while archive.fileobj.read(1 << 20):
                    pass
        else:
            raise UserError(f"{path} is no folder, zip or tar of images, or it is damaged")
    except (OSError, EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error) as e:
        raise UserError(f"{path} cannot be read ({e}); it may be damaged, protected or incomplete") from e


def inside(name: str, archive: Path) -> str:
    """`name` in normal form; raises `UserError` where it leads out of the archive."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[0]:
        raise UserError(f"{archive}: the member {name!r} leads outside the archive; it is not used")
    return parts.as_posix()


def hidden(name: str) -> bool:
    """Whether the file is a system's own, as macOS leaves in archives."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)
