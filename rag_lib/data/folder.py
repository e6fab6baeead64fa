"""Anyone's images: a folder, a zip or a tar with one subfolder a class, read once into `Images`."""

import hashlib
import os.path
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from unicodedata import normalize

import numpy as np
import torch

from rag_lib.base import UserError, results_dir
from rag_lib.data.archives import Files, files_of, visible
from rag_lib.data.formats import DECODER, SUFFIXES, decode
from rag_lib.data.images import Images
from rag_lib.data.levels import check_classes, check_levels, some
from rag_lib.runtime.files import load_weights, room_for, save_weights, sha256

Layout = dict[str, tuple[str, str, str]]  # of each path: split, class, and the file's own name


def read(path: str | Path, channels: int, size: int, fingerprint: str) -> tuple[Images, Images | None]:
    """Return the training images and, where the folder has a `test` part, the test images.

    Accepts `PATH/train/<class>/*` with `PATH/test/<class>/*`, or `PATH/<class>/*`; PATH is a folder, a
    zip or a tar (any compression). Each image becomes `channels` x `size` x `size`, uint8: turned as its
    EXIF data say, transparency laid on white, 16 bits scaled to 8, the centre square resized. Decoded
    images are cached under `results/cache` by `fingerprint`. Raises `UserError` for a folder without two
    classes and for images that cannot be read (the first ten by name).
    """
    cache = results_dir() / "cache" / f"pixels-{fingerprint[:16]}-{channels}x{size}-v{DECODER}.safetensors"
    kept = None
    if cache.exists():
        try:
            kept = load_weights(cache)
        except UserError as e:
            print(f"{e}; the images are decoded again", file=sys.stderr)
    if kept is None:
        pixels, order, unusable = {}, {}, []
        with files_of(path) as files:
            layout, classes = layout_of(path, files)
            for name, (_, label, own_name) in layout.items():
                data = files[name].read_bytes()
                # by what the fingerprint knows, so that one fingerprint has one order, and one split
                order[name] = (f"{label}/{own_name}", hashlib.sha256(data).digest())
                try:
                    pixels[name] = decode(data, name, channels, size)
                except UserError as e:
                    unusable.append(str(e))
        if unusable:
            raise UserError(some(unusable, 10, "; "))
        tensors = {}
        for split in {split for split, *_ in layout.values()}:
            names = sorted((name for name in layout if layout[name][0] == split), key=order.__getitem__)
            tensors[f"{split}_x"] = torch.from_numpy(np.ascontiguousarray([pixels[name] for name in names]))
            tensors[f"{split}_y"] = torch.tensor([classes.index(layout[name][1]) for name in names])
        kept = tensors, {"classes": classes, "copies": copies_among(layout, pixels)}
        cache.parent.mkdir(parents=True, exist_ok=True)
        with room_for(f"the decoded images in {cache}"):
            save_weights(cache, *kept)
    tensors, card = kept
    if card["copies"]:
        print(f"{path}: {card['copies']}", file=sys.stderr)
    train, test = (
        Images(tensors[f"{split}_x"], tensors[f"{split}_y"], tuple(card["classes"]))
        if f"{split}_x" in tensors
        else None
        for split in ("train", "test")
    )
    return train, test


def fingerprint(path: str | Path) -> str:
    """SHA-256 of the images' names and bytes: the same for a folder, its copy and its archive.

    Says which classes are found, and which files of the folder are left out.
    """
    with files_of(path) as files:
        layout, _ = layout_of(path, files, say=True)
        parts = [(*place, sha256(files[name])) for name, place in layout.items()]
    return hashlib.sha256(repr(sorted(parts)).encode()).hexdigest()


def copies_among(layout: Layout, pixels: Mapping[str, np.ndarray]) -> str:
    """Tell how many images are there twice, where one copy may test who learned from the other; empty where none is."""
    copies: dict[bytes, list[str]] = {}
    for name in sorted(pixels):
        copies.setdefault(hashlib.sha256(pixels[name].tobytes()).digest(), []).append(name)
    drawn = "test" not in {split for split, *_ in layout.values()}  # else the copies within a part do no harm
    repeated = [c for c in copies.values() if len(c) > 1 and (drawn or len({layout[name][0] for name in c}) > 1)]
    if not repeated:
        return ""
    first, second, *_ = repeated[0]
    return (
        f"{len(repeated)} images are there more than once, such as {first} and {second}; keep one of each, or a "
        "classifier may be tested on an image that it learned from"
    )


def layout_of(path: str | Path, files: Files, say: bool = False) -> tuple[Layout, list[str]]:
    """Return each image's split and class, and the classes in alphabetical order; on demand say what is found."""
    seen = set(map(visible, files))
    images = {name for name in seen if files.get(name) is not None and is_image(name)}
    odd = min((name for name in images if name != name.encode(errors="ignore").decode()), default=None)
    if odd is not None:
        raise UserError(
            f"{path}: the name {odd!r} is no UTF-8; rename it, or pack it with a program that writes UTF-8 names"
        )
    if not images:
        raise UserError(f"{path} holds no image; allowed are {', '.join(sorted(SUFFIXES))}")
    parts = places(seen, images)
    layout: Layout = {name: (*parts[name][:2], parts[name][-1]) for name in sorted(images & parts.keys())}
    folders: dict[str, set[tuple[str, ...]]] = {}
    for name in layout:
        folders.setdefault(parts[name][1], set()).add(parts[name][2:-1])
    check_levels(path, folders)
    counts = Counter(place[:2] for place in layout.values())
    counts.update({place[:2]: 0 for place in parts.values()})  # classes without an image, too
    check_classes(path, counts)
    if say:
        say_classes(path, counts)
        say_left_out(path, files, layout)
    return layout, sorted({label for split, label in counts if split == "train"})


def places(names: set[str], images: set[str]) -> dict[str, tuple[str, ...]]:
    """Return where each file or folder is: its split, its class, and its path in there; without what has no class."""
    # macOS writes é as two characters; a folder's parts end with an empty name
    parts = unwrapped({name: tuple(normalize("NFC", name).split("/")) for name in names}, images)
    below = {"train": parts}
    if {parts[name][0] for name in images & parts.keys() if len(parts[name]) > 2} >= {"train", "test"}:
        below = {split: {n: p[1:] for n, p in parts.items() if p[0] == split} for split in ("train", "test")}
    return {n: (split, *p) for split in below for n, p in unwrapped(below[split], images).items() if len(p) > 1}


def unwrapped(parts: Mapping[str, tuple[str, ...]], images: set[str]) -> Mapping[str, tuple[str, ...]]:
    """Return these paths below the folder that holds all images, as an archive often has one of its own name."""
    deep = [parts[name] for name in images & parts.keys() if len(parts[name]) > 1]
    if len({p[0] for p in deep}) == 1 and max(map(len, deep)) > 2:
        return unwrapped({name: p[1:] for name, p in parts.items() if len(p) > 1 and p[0] == deep[0][0]}, images)
    return parts


def is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def say_classes(path: str | Path, counts: Counter[tuple[str, str]]) -> None:
    """Print the classes and how many images each has to train on and, where there is a `test` part, to test."""
    tested = any(split == "test" for split, _ in counts)
    told = [
        f"{label} ({counts['train', label]:,}" + f" + {counts['test', label]:,}" * tested + ")"
        for label in sorted({label for _, label in counts})
    ]
    print(f"{path}: {len(told)} classes, images{' to train and to test' * tested}: {some(told, 50)}", file=sys.stderr)


def say_left_out(path: str | Path, files: Files, layout: Layout) -> None:
    """Print how many files are no images of a class, by their kinds, with a name of each."""
    kinds: dict[str, list[str]] = {}
    for name in sorted(name for name in files.keys() - layout.keys() if not name.endswith("/")):
        if visible(name) != name:
            kind = "files of a system"
        elif files[name] is None:
            kind = "links that lead to no file"
        else:
            kind = "images of no class" if is_image(name) else "files that are no images"
        kinds.setdefault(kind, []).append(name)
    if kinds:
        told = (f"{len(names):,} {kind}, such as {names[0]!r}" for kind, names in kinds.items())
        print(f"{path}: left out are {'; '.join(told)}", file=sys.stderr)
