"""Own images: how they lie, what is left out, what their pixels become, and what is refused by name."""

import errno
import gzip
import io
import os
import shutil
import struct
import tarfile
import tempfile
import zipfile
import zlib
from contextlib import suppress
from itertools import product
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from helpers import encoded, noise, photos, refused, write
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from rag_lib.base import UserError, results_dir
from rag_lib.data import folder

KEY = "0123456789abcdef"  # a fingerprint where the test is not about fingerprints
ARCHIVES = ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"]


def packed(kind: str, path: Path, files: dict[str, bytes]) -> Path:
    """These files, in the order given, as a folder, or as an archive beside it."""
    if kind == "folder":
        return write(path, files)
    path = path.with_name(f"{path.name}.{kind}")
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
            for name, data in files.items():
                z.writestr(name, data)
    else:
        with tarfile.open(path, f"w:{kind[4:]}") as t:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                t.addfile(member, io.BytesIO(data))
    return path


def replaced(path: Path, old: bytes, new: bytes) -> None:
    path.write_bytes(path.read_bytes().replace(old, new))


def read(path: Path, channels: int = 3, size: int = 32, key: str = KEY):
    return folder.read(path, channels, size, key)


def decoded(data: bytes, channels: int = 3, size: int = 32) -> np.ndarray:
    """What becomes of one image, H x W x C."""
    return folder.decode(data, "image", channels, size).transpose(1, 2, 0)


LAYOUTS = {  # where the images lie of a part: `train/` and `test/`, or none
    "bare": "{part}{label}/{i}.png",
    "in a folder of its own": "own/{part}{label}/{i}.png",
    "in two folders": "a/b/{part}{label}/{i}.png",
    "behind a dot": "./{part}{label}/{i}.png",
    "each part in one of its own": "{part}{part}{label}/{i}.png",  # regression: of such parts one class was found
    "deeper in a class": "{part}{label}/2024/май ñ/{i}.png",
}


@pytest.mark.parametrize(
    ("kind", "layout"),
    [*product(["folder", "zip", "tar"], LAYOUTS), *product(["tar.gz", "tar.bz2", "tar.xz"], ["bare"])],
)
@pytest.mark.parametrize("parts", [[""], ["train/", "test/"]], ids=["classes", "train and test"])
def test_images_come_by_part_class_and_name_wherever_they_lie(tmp_path, kind, parts, layout):
    files, bare = {}, {}
    for seed, (part, label, i) in enumerate(product(parts, ("cat", "猫 🐈"), range(3))):
        files[LAYOUTS[layout].format(part=part, label=label, i=i)] = encoded(noise(seed))
        bare[f"{part}{label}/{i}.png"] = encoded(noise(seed))
    path = packed(kind, tmp_path / "own", dict(reversed(files.items())))
    found = [images for images in read(path) if images is not None]
    for k, images in enumerate(found):
        expected = [noise(6 * k + i).transpose(2, 0, 1) for i in range(6)]
        np.testing.assert_array_equal(images.x.numpy(), expected)
        assert (images.classes, images.y.tolist()) == (("cat", "猫 🐈"), [0, 0, 0, 1, 1, 1])
    assert len(found) == len(parts)
    assert folder.fingerprint(path) == folder.fingerprint(write(tmp_path / "bare", bare))


def test_a_path_is_a_string_or_starts_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write(tmp_path / "own", photos())
    assert folder.fingerprint("~/own") == folder.fingerprint(str(path)) == folder.fingerprint(path)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_what_is_left_out_is_counted_by_kind_and_named(tmp_path, kind, capsys):
    """Regression: links that lead to no file vanished without a word, and thumbnails counted as images."""
    of_a_system = ("own/.DS_Store", "own/cat/@eaDir/0.png", "own/$RECYCLE.BIN/x.png", "own/.cache/x.png")
    of_a_system += ("own/cat/._0.png", "__MACOSX/own/cat/x.png")
    no_images = ("own/README.md", "own/cat/notes.txt", "own/cat/a.heic")
    littered = photos(top="own/") | dict.fromkeys((*of_a_system, *no_images, "own/logo.png"), encoded(noise(9)))
    path = packed(kind, tmp_path / "littered", littered)
    expected = ["6 files of a system", "3 files that are no images", "1 images of no class, such as 'own/logo.png'"]
    if kind == "folder":
        (path / "own/cat/gone.png").symlink_to(tmp_path / "nowhere")
        os.utime(path / "own/cat/0.png", (0, 0))  # no fingerprint depends on a time
        expected.append("1 links that lead to no file, such as 'own/cat/gone.png'")
    key = folder.fingerprint(path)
    _, line = capsys.readouterr().err.splitlines()
    assert [part for part in expected if part not in line] == []
    train, _ = read(path)
    assert (len(train), train.classes) == (8, ("cat", "dog"))
    assert folder.fingerprint(write(tmp_path / "clean", photos())) == key
    assert "left out" not in capsys.readouterr().err


def test_the_classes_are_told_with_their_images(tmp_path, capsys):
    folder.fingerprint(write(tmp_path / "own", photos(n=3, top="train/") | photos(n=2, top="test/", seed=1)))
    assert "2 classes, images to train and to test: cat (3 + 2), dog (3 + 2)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("parts", "copy", "named"),
    [
        ([""], "cat/0 (copy).png", "cat/0 (copy).png and cat/0.png"),
        ([""], "dog/other.png", "cat/0.png and dog/other.png"),
        ([""], "dog/other.bmp", "cat/0.png and dog/other.bmp"),  # regression: only copies of the same bytes were
        (["train/", "test/"], "test/cat/other.png", "test/cat/other.png and train/cat/0.png"),
        (["train/", "test/"], "train/cat/other.png", None),  # the test set knows nothing of it
    ],
)
def test_an_image_that_may_be_learned_and_tested_is_named(tmp_path, parts, copy, named, capsys):
    files = {name: data for seed, top in enumerate(parts) for name, data in photos(top=top, seed=seed).items()}
    path = write(tmp_path / "own", files | {copy: encoded(noise(0), copy[-3:])})
    for _ in range(2):  # the second time by the cache
        read(path)
        said = f"{path}: 1 images are there more than once, such as {named}; keep one of each" if named else ""
        assert capsys.readouterr().err.partition(", or")[0].strip() == said


def test_a_linked_class_is_read_and_a_link_that_leads_back_is_not(tmp_path):
    """Regression: the class was left out without a word."""
    path = write(tmp_path / "own", photos())
    elsewhere = write(tmp_path / "elsewhere", photos(("elk",), seed=1))
    for link, target in (("elk", elsewhere / "elk"), ("elk/back", path), ("cat/own", path / "cat")):
        (path / link).symlink_to(target)
    train, _ = read(path)
    assert train.classes == ("cat", "dog", "elk")
    assert train.y.bincount().tolist() == [4, 4, 4]


def test_a_zips_names_are_utf8_though_it_does_not_say_so_or_refused(tmp_path):
    """Regression: names of macOS became others, and those of a Chinese Windows, too, where they are refused now."""
    for encoding in ("utf-8", "gbk"):
        names = {sign * len(label.encode(encoding)): label for sign, label in ("#猫", "@狗")}
        path = packed("zip", tmp_path / encoding, photos(tuple(names)))
        for stand_in, label in names.items():
            replaced(path, f"{stand_in}/".encode(), f"{label}/".encode(encoding))
    assert read(tmp_path / "utf-8.zip")[0].classes == ("狗", "猫")
    with refused("gbk.zip", "names that are no UTF-8, unpack it yourself"):
        read(tmp_path / "gbk.zip", key="another")


def test_only_an_ignored_file_may_have_a_name_that_is_no_utf8(tmp_path, capsys):
    """Regression: the classifier was trained, and then its table could not be written."""
    path = write(tmp_path / "own", photos() | {"note.txt": b"a note"})
    try:
        os.rename(path / "note.txt", os.fsencode(path) + b"/caf\xe9.txt")
    except OSError:
        pytest.skip("this file system has no such names")
    folder.fingerprint(path)
    assert "1 files that are no images" in capsys.readouterr().err
    os.rename(path / "cat", os.fsencode(path) + b"/caf\xe9")
    with refused("is no UTF-8; rename it"):
        folder.fingerprint(path)


def test_one_class_in_two_forms_of_unicode_is_one(tmp_path):
    """Regression: macOS writes é as two characters, and made two classes of one."""
    one, two = (normalize(form, "café") for form in ("NFC", "NFD"))
    assert read(packed("zip", tmp_path / "both", photos(("dog", one, two))))[0].classes == (one, "dog")
    keys = [folder.fingerprint(packed("tar", tmp_path / label, photos((label, "dog")))) for label in (one, two)]
    assert keys[0] == keys[1]


def test_images_of_each_size_and_channels_are_decoded_once(tmp_path):
    path = write(tmp_path / "own", photos(n=2, top="train/") | photos(n=1, top="test/", seed=1))
    first = {(channels, size): read(path, channels, size) for channels in (1, 3) for size in (28, 32)}
    shutil.rmtree(path)  # what is read now can only come from the cache
    for (channels, size), parts in first.items():
        for a, b in zip(parts, read(path, channels, size), strict=True):
            assert a.x.shape[1:] == (channels, size, size)
            np.testing.assert_array_equal(a.x.numpy(), b.x.numpy())
            assert (a.y.tolist(), a.classes) == (b.y.tolist(), b.classes)


@pytest.mark.parametrize("damage", [lambda d: d[: len(d) // 2], lambda d: d[:-9] + bytes([d[-9] ^ 1]) + d[-8:]])
def test_a_damaged_cache_is_said_and_decoded_again(tmp_path, damage, capsys):
    """Regression: half a file was a traceback for ever after, and a flipped bit was read as it was."""
    path = write(tmp_path / "own", photos())
    first, _ = read(path)
    (cache,) = (results_dir() / "cache").glob("*.safetensors")
    cache.write_bytes(damage(cache.read_bytes()))
    for said in (True, False):
        again, _ = read(path)
        np.testing.assert_array_equal(again.x.numpy(), first.x.numpy())
        assert ("; the images are decoded again" in capsys.readouterr().err) == said


def test_changed_content_has_another_fingerprint(tmp_path):
    path = write(tmp_path / "own", photos())
    keys = [folder.fingerprint(path)]
    for old, new in (("cat/0.png", "cat/zero.png"), ("cat/1.png", "dog/one.png"), ("cat", "lion")):
        (path / old).rename(path / new)
        keys.append(folder.fingerprint(path))
    write(path, {"dog/2.png": encoded(noise(99))})
    keys.append(folder.fingerprint(path))
    (path / "dog/3.png").unlink()
    assert len({*keys, folder.fingerprint(path)}) == 6


def test_one_fingerprint_has_one_order(tmp_path):
    """Regression: images moved between subfolders of a class kept the run's name, and others were tested."""
    files = photos() | {"cat/y/0.png": encoded(noise(50))}
    moves = {"cat/0.png": "cat/z/0.png", "cat/2.png": "cat/a/2.png", "cat/y/0.png": "cat/0.png"}
    before = write(tmp_path / "before", files)
    after = write(tmp_path / "after", {moves.get(name, name): data for name, data in files.items()})
    assert folder.fingerprint(before) == folder.fingerprint(after)
    np.testing.assert_array_equal(read(before, key="a")[0].x.numpy(), read(after, key="b")[0].x.numpy())


def test_a_refused_folder_leaves_no_cache_and_is_read_once_mended(tmp_path):
    path = write(tmp_path / "own", photos() | {"dog/3.png": b"no image"})
    with refused("dog/3.png"):
        read(path)
    assert [p for p in results_dir().rglob("*") if p.is_file()] == []
    write(path, photos())
    assert len(read(path)[0]) == 8


COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]], dtype=np.uint8)
GREEN_IS_WHITE = [[255, 0, 0], [255, 255, 255], [0, 0, 255], [10, 20, 30]]
INKS = np.array([[0, 0, 0, 0], [0, 255, 255, 0], [255, 0, 255, 0], [0, 0, 0, 255]], dtype=np.uint8)


def quarters(values: list, kind: type = np.uint8) -> np.ndarray:
    """An image of 32 x 32 whose quarters have these values."""
    return np.array(values, dtype=kind)[np.kron([[0, 1], [2, 3]], np.ones((16, 16), dtype=int))]


def palette(**options) -> bytes:
    image = Image.fromarray(quarters([0, 1, 2, 3]), mode="P")
    image.putpalette(COLOURS.flatten().tolist())
    return encoded(image, **options)


def see_through(mode: str) -> bytes:
    """Grey 0, 200, 100 and 100, of which nothing, nothing, all and a fifth is to be seen."""
    grey, alpha = (Image.fromarray(quarters(values)) for values in ([0, 200, 100, 100], [0, 0, 255, 51]))
    return encoded(Image.merge(mode, [grey] * (len(mode) - 1) + [alpha]))


FRAMES = [Image.new("L", (32, 32), level) for level in (40, 200)]
SIXTEEN_BITS = quarters([0, 25_700, 26_057, 65_535], np.uint16)
PIXELS = {  # a file, and the values of its quarters
    "palette": (palette(), COLOURS),
    "palette with a transparent colour": (palette(transparency=1), GREEN_IS_WHITE),
    "palette with alphas": (palette(transparency=bytes([255, 0, 255, 255])), GREEN_IS_WHITE),
    "transparent colour": (encoded(quarters(COLOURS), transparency=(0, 255, 0)), GREEN_IS_WHITE),
    "LA": (see_through("LA"), [255, 255, 100, 224]),  # 100 / 5 + 255 * 4 / 5 = 224
    "RGBA": (see_through("RGBA"), [255, 255, 100, 224]),
    "CMYK": (encoded(Image.fromarray(quarters(INKS), "CMYK"), "TIFF"), [[255] * 3, [255, 0, 0], [0, 255, 0], [0] * 3]),
    "1 bit": (encoded(quarters([False, True, True, False], bool)), [0, 255, 255, 0]),
    "16 bits": (encoded(SIXTEEN_BITS), [0, 100, 101, 255]),  # scaled, not clipped
    "16 bits in TIFF": (encoded(SIXTEEN_BITS, "TIFF"), [0, 100, 101, 255]),
    "grey": (encoded(quarters([0, 100, 200, 255])), [0, 100, 200, 255]),
    "animation": (encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]), [40] * 4),  # its first frame
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("data", "expected"), PIXELS.values(), ids=PIXELS)
def test_pixels_have_the_colours_that_the_file_means(data, expected, channels):
    values = np.array(expected)
    if channels == 1 and values.ndim == 2:
        values = values @ [0.299, 0.587, 0.114]  # the luminance
    seen = decoded(data, channels)
    assert seen.shape == (32, 32, channels)
    np.testing.assert_allclose(seen, np.broadcast_to(quarters(values.reshape(4, -1), float), seen.shape), atol=1)


def tiff(image: np.ndarray, order: str, photometric: int, planar: int) -> bytes:
    """An uncompressed TIFF file of an image (H x W x C) in a byte order, `<` or `>`; `planar`: 2 for planes apart."""
    height, width, channels = image.shape
    planes = np.moveaxis(image, -1, 0) if planar == 2 else [image]
    data = [plane.astype(image.dtype.newbyteorder(order)).tobytes() for plane in planes]
    tags = ImageFileDirectory_v2({"<": b"II*\0", ">": b"MM\0*"}[order] + bytes(4))
    tags[256], tags[257], tags[258], tags[259] = width, height, (8 * image.itemsize,) * channels, 1
    tags[262], tags[277], tags[278], tags[284] = photometric, channels, height, planar
    tags[273] = tuple(len(data[0]) * i for i in range(len(data)))  # where each begins, behind the tags
    tags[279] = (len(data[0]),) * len(data)
    file = io.BytesIO()
    tags.save(file)
    return file.getvalue() + b"".join(data)


@pytest.mark.parametrize("planar", [1, 2], ids=["in one", "planes apart"])
@pytest.mark.parametrize(("order", "photometric"), [("<", 0), ("<", 1), (">", 1), ("<", 2), (">", 2)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_tiff_files_of_any_order_are_read_right(order, photometric, planar, kind):
    """Regression: 16 bits became a negative where white is 0, and noise where the colours stand apart."""
    largest = np.iinfo(kind).max
    image = np.random.default_rng(0).integers(0, largest, (32, 32, 3 if photometric == 2 else 1), kind, True)
    expected = np.broadcast_to(largest - image if photometric == 0 else image, (32, 32, 3)) * (255 / largest)
    np.testing.assert_allclose(decoded(tiff(image, order, photometric, planar)), expected, atol=1)


def chunk(kind: bytes, content: bytes) -> bytes:
    """A part of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(depth: int, colour: int, samples: list[int], clear: list[int]) -> bytes:
    """A PNG file of 32 equal rows with these samples of `depth` bits, one colour of them transparent."""
    row = int("".join(f"{sample:0{depth}b}" for sample in samples), 2).to_bytes(depth * len(samples) // 8)
    chunks = [
        chunk(b"IHDR", struct.pack(">2I5B", 32, 32, depth, colour, 0, 0, 0)),
        chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear)),
        chunk(b"IDAT", zlib.compress((b"\0" + row) * 32)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_of_any_depth_becomes_white(depth):
    """Regression: of 2, 4 and 16 bits it was forgotten."""
    levels = 2 ** min(depth, 5)
    samples = [i % levels * ((2**depth - 1) // (levels - 1)) for i in range(32)]
    expected = [255 if s == samples[1] else s * 255 / (2**depth - 1) for s in samples]
    np.testing.assert_allclose(decoded(png(depth, 0, samples, [samples[1]]), 1)[0, :, 0], expected, atol=1)


def test_an_image_is_turned_as_its_exif_data_say():
    exif = Image.Exif()
    exif[0x0112] = 6
    np.testing.assert_array_equal(decoded(encoded(noise(1), exif=exif)), np.rot90(noise(1), -1))  # clockwise


def test_text_where_exif_data_have_a_number_does_no_harm():
    """Regression: the image was refused, for a resolution that nobody asks for."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "cam"
    jpeg = encoded(noise(0), "JPEG", exif=exif)
    odd = jpeg.replace(b"\x01\x0f\x00\x02", b"\x01\x1a\x00\x02")
    np.testing.assert_array_equal(decoded(odd), decoded(jpeg))


@pytest.mark.parametrize("upright", [False, True])
def test_the_centre_square_of_a_longer_image_is_used(upright):
    image = np.concatenate([np.full_like(noise(0), (255, 0, 0)), noise(3), np.full_like(noise(0), (0, 0, 255))], 1)
    image, expected = (image.swapaxes(0, 1), noise(3).swapaxes(0, 1)) if upright else (image, noise(3))
    np.testing.assert_array_equal(decoded(encoded(np.ascontiguousarray(image))), expected)


@pytest.mark.parametrize("suffix", ["bmp", "gif", "jpeg", "jpg", "pgm", "png", "ppm", "tif", "tiff", "webp", "JPG"])
def test_every_allowed_kind_of_file_is_read(tmp_path, suffix):
    kind = {"jpg": "JPEG", "tif": "TIFF", "pgm": "PPM"}.get(suffix.lower(), suffix.upper())
    grey = encoded(np.full((16, 16), 90, dtype=np.uint8), kind)  # of the smallest size that is allowed
    train, _ = read(write(tmp_path / "own", {f"{label}/{i}.{suffix}": grey for label in "ab" for i in range(3)}))
    assert train.x.shape == (6, 3, 32, 32)
    assert (train.x.int() - 90).abs().max() <= 2


UNSPLITTABLE = {
    "empty": ({}, ["holds no image", "allowed are", ".jpeg", ".png"]),
    "no image file": ({"cat/a.txt": b"", "dog/b.svg": b""}, ["holds no image"]),
    "no class": ({f"{i}.png": encoded(noise(i)) for i in range(4)}, ["has no class", "of at least two classes"]),
    "one class": (photos(("cat",)), ["has only the class 'cat'", "of at least two classes"]),
    "two images in a class": (photos(n=3) | photos(("elk",), 2), ["class 'elk' has 2 images", "at least 3"]),
    "text in a class": (photos() | {"elk/a.txt": b""}, ["'elk' has 0 images"]),  # regression: such classes vanished
    "thumbnails in a class": (photos() | photos(("elk/@eaDir",)), ["'elk' has 0 images"]),
    "hidden images in a class": (photos() | photos(("elk/.hidden",)), ["'elk' has 0 images"]),
    "one image to train on": (photos(n=1, top="train/") | photos(top="test/"), ["'cat' has 1 images", "at least 2"]),
    "class in test only": (photos(top="train/") | photos(("cat", "elk"), top="test/"), ["'elk' is in test but not"]),
    "class in train only": (photos(top="train/") | photos(("cat",), top="test/"), ["'dog' is in train but not"]),
}


@pytest.mark.parametrize(("files", "parts"), UNSPLITTABLE.values(), ids=UNSPLITTABLE)
def test_a_folder_that_cannot_be_split_into_classes_is_refused(tmp_path, files, parts):
    path = write(tmp_path / "own", files)
    with refused(path, *parts):
        read(path)


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_an_empty_class_is_refused(tmp_path, kind):
    """Regression: it vanished."""
    path = write(tmp_path / "own", photos())
    (path / "elk").mkdir()
    if kind != "folder":
        path = shutil.make_archive(str(path), kind, path)
    with refused(path, "'elk' has 0 images", "at least 3"):
        folder.fingerprint(path)


@pytest.mark.parametrize("data", [None, b"", b"a text", encoded(noise(0))], ids=["missing", "empty", "text", "image"])
def test_what_is_no_folder_and_no_archive_is_refused(tmp_path, data):
    write(tmp_path, {} if data is None else {"own.zip": data})
    with refused(tmp_path / "own.zip", "give a folder, a zip" if data is None else "is no folder, zip or tar"):
        read(tmp_path / "own.zip")


def without_the_end(data: bytes, share: float) -> bytes:
    """A share of a file, not counting the zeros at the end of a tar, which are nothing to lose."""
    return data[: int(share * len(data.rstrip(b"\0")))]


DAMAGES = {
    "2% of it": lambda data: without_the_end(data, 0.02),
    "95% of it": lambda data: without_the_end(data, 0.95),
    "100 other bytes": lambda data: data[: len(data) // 2] + b"\xff" * 100 + data[len(data) // 2 + 100 :],
    "another checksum": lambda data: data[:-8] + bytes([data[-8] ^ 1]) + data[-7:],
}


@pytest.mark.parametrize(
    ("kind", "damage"), [pair for pair in product(ARCHIVES, DAMAGES) if pair[0] != "tar" or "of it" in pair[1]]
)
def test_a_damaged_archive_is_refused(tmp_path, kind, damage):
    files = {f"{label}/{i}.bmp": encoded(noise(i) // 64, "BMP") for label in "ab" for i in range(4)}  # compressible
    path = packed(kind, tmp_path / "own", files)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with refused(path, "damaged"):
        read(path)


@pytest.mark.parametrize("kept", [0, 1], ids=["cut off", "overwritten"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["tar", "tar.gz"])
def test_a_tar_that_is_damaged_between_two_images_is_refused(tmp_path, compress, kept):
    path = packed("tar", tmp_path / "own", photos())
    with tarfile.open(path) as t:
        at = t.getmember("dog/3.png").offset  # all before it would be enough for two classes
    data = path.read_bytes()
    path.write_bytes(compress(data[:at] + (b"\xff" * 512 + data[at + 512 :]) * kept))
    with refused(path, "damaged"):
        read(path)


def test_an_archive_that_finds_no_room_says_so(tmp_path, monkeypatch):
    """Regression: it was said to be damaged."""
    path = packed("tar", tmp_path / "own", photos())
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(tarfile.TarFile, "extractall", lambda *_, **__: (_ for _ in ()).throw(full))
    with refused(path, "finds no room in", "set TMPDIR"):
        folder.fingerprint(path)


def test_an_encrypted_zip_is_refused(tmp_path):
    path = packed("zip", tmp_path / "own", photos())
    replaced(path, b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0")  # the flag of each member
    with refused(path, "cannot be read", "password", "protected"):
        read(path)


@pytest.mark.parametrize(
    "name", ["../evil.png", "cat/../../evil.png", "/etc/evil.png", r"..\evil.png", r"C:\evil.png", "C:/evil.png"]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_no_member_of_an_archive_is_written_outside(tmp_path, kind, name, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(write(tmp_path / "temporary", {"a note": b""})))
    path = packed(kind, tmp_path / "own", photos() | {name: encoded(noise(9))})
    with suppress(UserError):
        folder.fingerprint(path)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["a note", path.name]
    assert not Path("/etc/evil.png").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE], ids=["symbolic link", "hard link"])
def test_a_tar_with_a_link_that_leads_outside_is_refused(tmp_path, kind):
    outside = write(tmp_path / "outside", photos(("elk",)))
    path = packed("tar", tmp_path / "own", photos())
    with tarfile.open(path, "a") as t:
        link = tarfile.TarInfo("cat/link.png")
        link.type, link.linkname = kind, str(outside / "elk/0.png")
        t.addfile(link)
    with refused(path, "cat/link.png"):
        folder.fingerprint(path)


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_links_within_a_tar_count_as_in_the_folder(tmp_path, kind, capsys):
    """Regression: 8 + 4 images of a folder were 4 + 4 of its tar, without a word."""
    path = write(tmp_path / "own", photos())
    links = {"cat/a.png": "3.png", "cat/b.png": "../cat/2.png", "cat/c.png": "a.png", "elk": "dog"}
    links |= {"cat/d.png": "../elk/0.png", "dog/e.png": "../cat/d.png", "cat/up": ".", "cat/nowhere": "gone"}
    for name, target in links.items():
        (path / name).symlink_to(target)
    os.link(path / "cat/0.png", path / "cat/hard.png")
    archive = tmp_path / f"own.{kind}"
    with tarfile.open(archive, f"w:{kind[4:]}") as t:
        t.add(path, "own")
    assert len(read(archive, key="archive")[0]) == len(read(path, key="folder")[0]) == 19
    assert folder.fingerprint(archive) == folder.fingerprint(path)
    assert capsys.readouterr().err.count("left out are 2 links that lead to no file") == 2


def test_a_tar_that_ends_with_a_zip_is_still_a_tar(tmp_path):
    inner = packed("zip", tmp_path / "inner", {"notes.txt": b"a note"}).read_bytes()
    assert len(read(packed("tar", tmp_path / "own", photos() | {"extra.zip": inner}))[0]) == 8


JPEG = encoded(noise(0), "JPEG")


UNUSABLE = {
    "text": (b"<html>not found</html>", ["cannot be read as an image", "replace or remove it"]),
    "truncated PNG": (encoded(noise(0))[:1000], ["cannot be read as an image"]),
    "truncated JPEG": (JPEG[: len(JPEG) // 2], ["cannot be read as an image"]),
    "truncated GIF": (encoded(noise(0), "GIF")[:900], ["cannot be read as an image"]),
    "too low": (encoded(noise(0, 15, 40)), ["is 40 x 15 pixels", "must have at least 16 a side"]),
    "float": (encoded(np.ones((40, 40), np.float32), "TIFF"), ["floating-point pixels", "save it with 8 or 16 bits"]),
    "signed": (encoded(np.full((40, 40), 20_000, np.uint16), "TIFF", tiffinfo={339: 2}), ["signed pixels"]),
    "12 bits in 16": (encoded(np.full((40, 40), 4095, np.uint16)), ["from 4095 to 4095", "use 0 to 65535: scale them"]),
    "more than 16 bits": (encoded(np.full((40, 40), 70_000, np.int32), "TIFF"), ["values from 70000 to 70000"]),
    "transparent colour of 16 bits": (png(16, 2, list(range(96)), [3, 4, 5]), ["16 bits", "transparent", "8 bits"]),
}


@pytest.mark.parametrize(("data", "parts"), UNUSABLE.values(), ids=UNUSABLE)
def test_an_image_that_cannot_be_used_is_named(data, parts):
    with refused("dog/5.png", *parts):
        folder.decode(data, "dog/5.png", 3, 32)


def test_a_format_that_is_not_allowed_starts_no_program(monkeypatch):
    """Regression: an EPS file named .jpg started Ghostscript."""
    data = encoded(noise(0), "EPS")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    with refused("5.jpg", "cannot be read as an image"):
        folder.decode(data, "5.jpg", 3, 32)


def test_images_that_cannot_be_used_are_named_at_once_up_to_ten(tmp_path):
    """Regression: five of them took six runs."""
    path = write(tmp_path / "own", photos(n=20) | {f"cat/bad{i:02}.png": b"" for i in range(12)})
    with refused("bad00", "bad09", "and 2 more") as refusal:
        read(path)
    assert "bad10" not in str(refusal.value)


TWO = ("cat/0.png", "dog/0.png")  # in each of some folders


@pytest.mark.parametrize(
    "files",
    [
        {"train": TWO, "val": TWO},
        {"train": TWO, "test1": TWO},
        {"Train": TWO, "Test": TWO},
        {"testA": TWO, "testB": TWO},
        {"train_images": TWO, "val2": TWO},
        {"seg_train": TWO, "seg_test": TWO, "seg_pred": TWO},
        {f"seg_{part}": [f"seg_{part}/{name}" for name in TWO] for part in ("a", "b")},
        {f"fold{i}": [f"{i}.png"] for i in range(5)},
        {"colour": TWO, "grey": TWO},
        {"colour": TWO, "grey": ("cat/0.png", "elk/0.png", "dog/0.png")},
        {"amazon": ("images/cat/0.png", "images/dog/0.png"), "dslr": ("images/cat/0.png", "images/dog/0.png")},
        {"cells": TWO, "cat": ("1.png",), "dog": ("1.png",)},
        {"images": TWO, "annotations": ("trimaps/0.png",)},
        {"images": ("0.png",), "masks": ("0.png",)},
        {"JPEGImages": ("0.png",), "SegmentationClass": ("0.png",)},  # as VOC has them
        {"train": ("a/cat/0.png", "a/dog/0.png", "b/cat/0.png", "b/dog/0.png"), "test": ("a/cat/0.png", "b/cat/0.png")},
    ],
    ids=lambda files: ", ".join(files),
)
def test_a_level_above_the_classes_is_not_taken_for_them(tmp_path, files):
    """Regression: folders such as seg_train and seg_test became the classes."""
    names = [f"{top}/{name.replace('0.png', f'{i}.png')}" for top in files for name in files[top] for i in range(4)]
    path = write(tmp_path / "own", {name: encoded(noise(i)) for i, name in enumerate(names)})
    with refused(path, "a level above the classes", "give one of them alone, or name them train and test"):
        read(path)


@pytest.mark.parametrize(
    "names",
    [
        ("freight_train", "steam_train"),
        ("label_0", "label_1"),
        ("with_mask", "without_mask"),
        ("train", "bus"),
        ("benign/SOB/a/40X", "benign/SOB/b/40X", "malignant/SOB/c/40X", "malignant/SOB/d/40X"),
        ("cat/images", "dog/images"),
    ],
)
def test_classes_are_not_taken_for_a_level_above(tmp_path, names):
    train, _ = read(write(tmp_path / "own", photos(names)))
    assert train.classes == tuple(sorted({name.split("/")[0] for name in names}))
