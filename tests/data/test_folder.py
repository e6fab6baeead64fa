import gzip
import io
import os
import re
import shutil
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image

from rag_lib.base import UserError, results_dir
from rag_lib.data import folder
from rag_lib.data.archives import name_of

KEY = "0123456789abcdef"  # a fingerprint where the test is not about fingerprints
ARCHIVES = ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"]


def one_line(*parts: object) -> str:
    """The pattern of a message that has these parts, in this order, on its only line."""
    return r"\A.*" + ".*".join(re.escape(str(part)) for part in parts) + r".*\Z"


def noise(seed: int, height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, kind, **options)
    return file.getvalue()


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    root.mkdir(parents=True, exist_ok=True)
    return root


def archive(path: Path, files: dict[str, bytes]) -> Path:
    """A zip or a tar of these files, by the path's suffix, in the order given."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as z:
            for name, data in files.items():
                z.writestr(name, data, zipfile.ZIP_STORED if name.endswith(".png") else zipfile.ZIP_DEFLATED)
    else:
        kind = path.suffix.removeprefix(".")
        with tarfile.open(path, "w" if kind == "tar" else f"w:{kind}") as t:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                t.addfile(member, io.BytesIO(data))
    return path


def photos(classes: tuple[str, ...] = ("cat", "dog"), n: int = 4, top: str = "", seed: int = 0) -> dict[str, bytes]:
    """`n` different 32 x 32 PNG files a class."""
    names = [f"{top}{label}/{i}.png" for label in classes for i in range(n)]
    return {name: encoded(noise(100 * seed + i)) for i, name in enumerate(names)}


def pixels(data: bytes) -> np.ndarray:
    """A colour PNG file's pixels, C x H x W."""
    return np.asarray(Image.open(io.BytesIO(data))).transpose(2, 0, 1)


def only(image: Image.Image | np.ndarray, kind: str = "PNG", channels: int = 3, size: int = 32, **options):
    """What the decoder makes of one image, H x W x C."""
    return folder.decode(encoded(image, kind, **options), "image", channels, size).transpose(1, 2, 0)


def read(path: Path, channels: int = 3, size: int = 32, key: str = KEY):
    return folder.read(path, channels, size, key)


# Layouts


def test_a_folder_of_classes_gives_its_images_in_the_order_of_their_names(tmp_path):
    files = photos(("dog", "cat"), 3)
    train, test = read(write(tmp_path / "own", files))
    assert test is None
    assert train.classes == ("cat", "dog")
    assert train.y.tolist() == [0, 0, 0, 1, 1, 1]
    expected = [pixels(files[f"{label}/{i}.png"]) for label in ("cat", "dog") for i in range(3)]
    np.testing.assert_array_equal(train.x.numpy(), expected)


def test_train_and_test_folders_keep_their_own_images(tmp_path):
    files = photos(n=2, top="train/") | photos(n=3, top="test/", seed=1)
    train, test = read(write(tmp_path / "own", files))
    for part, top, n in ((train, "train", 2), (test, "test", 3)):
        assert part.classes == ("cat", "dog")
        assert part.y.tolist() == [0] * n + [1] * n
        expected = [pixels(files[f"{top}/{label}/{i}.png"]) for label in ("cat", "dog") for i in range(n)]
        np.testing.assert_array_equal(part.x.numpy(), expected)


def test_the_advice_for_a_level_above_the_classes_works(tmp_path):
    """Regression: who renamed seg_train/seg_train and seg_test/seg_test as was advised was told of only one class."""
    path = write(
        tmp_path / "own", {k: v for p in ("train", "test") for k, v in photos(top=f"seg_{p}/seg_{p}/").items()}
    )
    with pytest.raises(UserError, match="give one of them alone, or name them train and test"):
        read(path)
    alone, _ = read(path / "seg_train", key="alone")
    for part in ("train", "test"):
        (path / f"seg_{part}").rename(path / part)
    train, test = read(path, key="renamed")
    assert alone.classes == train.classes == test.classes == ("cat", "dog")
    assert alone.y.tolist() == train.y.tolist() == test.y.tolist() == [0] * 4 + [1] * 4


def test_images_deeper_inside_a_class_belong_to_it(tmp_path):
    files = {name.replace("/", "/2024/may/"): data for name, data in photos().items()}
    train, _ = read(write(tmp_path / "own", files))
    assert (train.classes, train.y.tolist()) == (("cat", "dog"), [0] * 4 + [1] * 4)


@pytest.mark.parametrize("top", ["", "own/", "a/b/", "./"], ids=["bare", "own top folder", "two folders", "dot"])
@pytest.mark.parametrize("parts", [("",), ("train/", "test/")], ids=["classes", "train and test"])
@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_gives_the_folders_images_and_fingerprint(tmp_path, kind, parts, top):
    files = {name: data for i, part in enumerate(parts) for name, data in photos(top=part, seed=i).items()}
    unpacked = write(tmp_path / "own", files)
    mixed = {top + name: files[name] for name in sorted(files, key=lambda name: files[name])}
    packed = archive(tmp_path / f"own.{kind}", mixed)
    assert folder.fingerprint(packed) == folder.fingerprint(unpacked)
    pairs = list(zip(read(packed, key="packed"), read(unpacked, key="unpacked"), strict=True))
    for a, b in pairs[: len(parts)]:
        np.testing.assert_array_equal(a.x.numpy(), b.x.numpy())
        assert (a.y.tolist(), a.classes) == (b.y.tolist(), b.classes)
    assert pairs[len(parts) :] == [(None, None)] * (2 - len(parts))


def test_a_path_is_a_string_or_starts_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write(tmp_path / "own", photos())
    assert folder.fingerprint("~/own") == folder.fingerprint(str(path)) == folder.fingerprint(path)


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_names_of_any_script_are_classes_and_files(tmp_path, kind):
    classes = ("Größe", "кот ёж", "猫 🐈")
    files = {f"{label}/фото ñ {i}.PNG": encoded(noise(i)) for label in classes for i in range(3)}
    path = write(tmp_path / "own", files) if kind == "folder" else archive(tmp_path / f"own.{kind}", files)
    train, _ = read(path)
    assert train.classes == classes
    assert train.y.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    np.testing.assert_array_equal(train.x[3:6].numpy(), [noise(i).transpose(2, 0, 1) for i in range(3)])


def test_all_that_is_left_out_is_counted_by_kind_and_named(tmp_path, capsys):
    """Regression: links that lead to no file vanished without a word, and thumbnails counted as images."""
    others = (
        "logo.png",
        "cat/notes.txt",
        "cat/a.heic",
        "README.md",
        ".DS_Store",
        "cat/@eaDir/0.png",
        "$RECYCLE.BIN/x.png",
    )
    path = write(tmp_path / "own", photos() | dict.fromkeys(others, encoded(noise(9))))
    (path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere")
    train, _ = read(path)
    assert (len(train), train.classes) == (8, ("cat", "dog"))
    folder.fingerprint(path)
    _, line = capsys.readouterr().err.splitlines()
    for kind in (
        "3 files of a system",
        "'cat/gone.png'",
        "1 images of no class, such as 'logo.png'",
        "3 files that are no",
    ):
        assert kind in line


@pytest.mark.parametrize(
    ("parts", "copy", "said"),
    [
        (("",), "cat/0 (copy).png", True),
        (("",), "dog/other.png", True),
        (("train/", "test/"), "test/cat/other.png", True),
        (("train/", "test/"), "train/cat/other.png", False),  # the test set knows nothing of it
    ],
)
def test_an_image_that_is_there_twice_and_may_be_learned_and_tested_is_named(tmp_path, parts, copy, said, capsys):
    files = {k: v for i, part in enumerate(parts) for k, v in photos(top=part, seed=i).items()}
    path = write(tmp_path / "own", files | {copy: files[f"{parts[0]}cat/0.png"]})
    first, second = sorted([copy, f"{parts[0]}cat/0.png"])
    line = f"{path}: 1 images are there more than once, such as {first} and {second}; keep one of each"
    for _ in range(2):  # the second time by the cache
        read(path)
        assert (line in capsys.readouterr().err) == said


@pytest.mark.parametrize(
    "copy", [("BMP", {}), ("PNG", {"compress_level": 0}), ("TIFF", {}), ("WEBP", {"lossless": True})]
)
def test_a_copy_in_other_bytes_is_named(tmp_path, copy, capsys):
    """Regression: only copies of the same bytes were."""
    kind, options = copy
    files = photos() | {f"dog/copy.{kind.lower()}": encoded(noise(0), kind, **options)}
    read(write(tmp_path / "own", files))
    assert f"such as cat/0.png and dog/copy.{kind.lower()};" in capsys.readouterr().err


def test_a_class_behind_a_link_is_read_and_a_link_that_leads_back_is_not(tmp_path):
    """Regression: the class was left out without a word."""
    path = write(tmp_path / "own", photos())
    elsewhere = write(tmp_path / "elsewhere", {f"{i}.png": encoded(noise(50 + i)) for i in range(4)})
    (path / "elk").symlink_to(elsewhere, target_is_directory=True)
    (elsewhere / "back").symlink_to(path, target_is_directory=True)
    (path / "cat" / "own").symlink_to(path / "cat", target_is_directory=True)
    train, _ = read(path)
    assert train.classes == ("cat", "dog", "elk")
    assert train.y.bincount().tolist() == [4, 4, 4]


def test_a_zips_names_are_utf8_though_it_does_not_say_so_or_refused(tmp_path):
    """Regression: names of macOS became others, and those of a Chinese Windows, too, where they are refused now."""
    for encoding in ("utf-8", "gbk"):
        names = {sign * len(label.encode(encoding)): label.encode(encoding) for sign, label in ("#猫", "@狗")}
        path = archive(tmp_path / f"{encoding}.zip", photos(tuple(names)))
        data = path.read_bytes()
        for stand_in, name in names.items():
            data = data.replace(f"{stand_in}/".encode(), name + b"/")
        path.write_bytes(data)
    assert read(tmp_path / "utf-8.zip")[0].classes == ("狗", "猫")
    with pytest.raises(UserError, match="is no UTF-8; rename it, or pack it with a program that writes UTF-8 names"):
        read(tmp_path / "gbk.zip", key="another")


def test_a_name_that_zipfile_has_read_as_utf8_stays():
    """Regression: newer Pythons find one in an extra field though the flag is not set, and it has no old code page."""
    assert name_of(zipfile.ZipInfo("猫/0.png")) == "猫/0.png"


def test_a_folder_whose_name_is_no_utf8_is_refused(tmp_path):
    """Regression: the classifier was trained, and then its table could not be written."""
    path = write(tmp_path / "own", photos())
    try:
        os.rename(os.fsencode(path / "cat"), os.fsencode(path) + b"/caf\xe9")
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(UserError, match="is no UTF-8; rename it"):
        folder.fingerprint(path)


def test_the_name_of_a_file_that_is_ignored_may_be_anything(tmp_path, capsys):
    path = archive(tmp_path / "own.zip", photos() | {"##.txt": b"a note"})
    path.write_bytes(path.read_bytes().replace(b"##.txt", b"\xff\xfe.txt"))
    folder.fingerprint(path)
    assert "1 files that are no images" in capsys.readouterr().err


def test_nothing_is_said_where_nothing_is_ignored(tmp_path, capsys):
    read(write(tmp_path / "own", photos()))
    assert capsys.readouterr() == ("", "")


def test_one_class_in_two_forms_of_unicode_is_one(tmp_path):
    """Regression: macOS writes é as two characters, and made two classes of one."""
    forms = [normalize(form, "café/é.png") for form in ("NFC", "NFD")]
    files = photos(("dog",)) | {name.replace(".", f"{i}."): encoded(noise(i)) for i in range(3) for name in forms}
    assert read(archive(tmp_path / "own.zip", files))[0].classes == (normalize("NFC", "café"), "dog")
    keys = {
        folder.fingerprint(
            archive(tmp_path / f"{form}.tar", {normalize(form, k): v for k, v in photos(("é", "b")).items()})
        )
        for form in ("NFC", "NFD")
    }
    assert len(keys) == 1


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_hidden_files_and_macos_leftovers_are_no_images(tmp_path, kind):
    files = photos()
    leftovers = ("cat/._0.png", ".cache/x.png", ".DS_Store", "__MACOSX/cat/._0.png", "__MACOSX/cat/x.png")
    littered = files | dict.fromkeys(leftovers, b"no image")
    path = write(tmp_path / "own", littered) if kind == "folder" else archive(tmp_path / "own.zip", littered)
    train, _ = read(path)
    assert (len(train), train.classes) == (8, ("cat", "dog"))
    assert folder.fingerprint(path) == folder.fingerprint(write(tmp_path / "clean", files))


# Cache and fingerprint


def test_images_are_decoded_once(tmp_path):
    path = write(tmp_path / "own", photos(n=2, top="train/") | photos(n=1, top="test/", seed=1))
    first = read(path)
    shutil.rmtree(path)  # what is read now can only come from the cache
    for a, b in zip(first, read(path), strict=True):
        np.testing.assert_array_equal(a.x.numpy(), b.x.numpy())
        assert (a.y.tolist(), a.classes) == (b.y.tolist(), b.classes)


@pytest.mark.parametrize(
    "damage", [lambda d: d[: len(d) // 2], lambda d: b"", lambda d: d[:-9] + bytes([d[-9] ^ 1]) + d[-8:]]
)
def test_a_damaged_cache_is_said_and_decoded_again(tmp_path, damage, capsys):
    """Regression: half a file was a traceback for ever after, and a flipped bit was read as it was."""
    path = write(tmp_path / "own", photos())
    first, _ = read(path)
    (cache,) = (results_dir() / "cache").glob("*.safetensors")
    cache.write_bytes(damage(cache.read_bytes()))
    assert "decoded again" not in capsys.readouterr().err
    for said in (True, False):
        again, _ = read(path)
        np.testing.assert_array_equal(again.x.numpy(), first.x.numpy())
        assert again.y.tolist() == first.y.tolist()
        assert ("; the images are decoded again" in capsys.readouterr().err) == said


def test_each_size_and_number_of_channels_is_cached_apart(tmp_path):
    path = write(tmp_path / "own", photos())
    shapes = {
        (channels, size): tuple(read(path, channels, size)[0].x.shape) for channels in (1, 3) for size in (28, 32)
    }
    assert shapes == {(c, s): (8, c, s, s) for c, s in shapes}


def change_a_pixel(path: Path) -> None:
    image = noise(0)
    image[0, 0] ^= 1
    (path / "cat/0.png").write_bytes(encoded(image))


@pytest.mark.parametrize(
    "change",
    [
        change_a_pixel,
        lambda path: (path / "cat/0.png").rename(path / "cat/zero.png"),
        lambda path: (path / "cat/0.png").rename(path / "dog/zero.png"),
        lambda path: (path / "cat").rename(path / "lion"),
        lambda path: (path / "dog/3.png").unlink(),
    ],
    ids=["pixel", "file name", "class of a file", "class name", "one file less"],
)
def test_changed_content_has_another_fingerprint(tmp_path, change):
    path = write(tmp_path / "own", photos())
    before = folder.fingerprint(path)
    change(path)
    assert folder.fingerprint(path) != before


def test_one_fingerprint_has_one_order(tmp_path):
    """Regression: images moved between subfolders of a class kept the run's name, and others were tested."""
    files = photos() | {"cat/y/0.png": encoded(noise(50))}
    moves = {"cat/0.png": "cat/z/0.png", "cat/2.png": "cat/a/2.png", "cat/y/0.png": "cat/0.png"}
    moved = {moves.get(name, name): data for name, data in files.items()}
    before, after = (write(tmp_path / str(len(content)), content) for content in (files, moved | {"note.txt": b""}))
    assert folder.fingerprint(before) == folder.fingerprint(after)
    np.testing.assert_array_equal(read(before, key="a")[0].x.numpy(), read(after, key="b")[0].x.numpy())


def test_changed_content_is_decoded_anew(tmp_path):
    path = write(tmp_path / "own", photos())
    before, _ = read(path, key=folder.fingerprint(path))
    change_a_pixel(path)
    after, _ = read(path, key=folder.fingerprint(path))
    assert (before.x != after.x).nonzero()[:, [0, 2, 3]].unique(dim=0).tolist() == [[0, 0, 0]]


def test_the_fingerprint_depends_on_no_time_and_no_file_that_is_ignored(tmp_path):
    path = write(tmp_path / "own", photos())
    before = folder.fingerprint(path)
    os.utime(path / "cat/0.png", (0, 0))
    write(path, {"notes.txt": b"new", ".DS_Store": b"new"})
    assert folder.fingerprint(path) == before


def test_a_refused_folder_leaves_no_cache_and_is_read_once_mended(tmp_path):
    files = photos()
    path = write(tmp_path / "own", files | {"dog/3.png": b"no image"})
    with pytest.raises(UserError, match=one_line("dog/3.png")):
        read(path)
    assert [p for p in results_dir().rglob("*") if p.is_file()] == []
    write(path, files)
    assert len(read(path)[0]) == 8


# Pixels

COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]], dtype=np.uint8)
QUARTERS = np.kron([[0, 1], [2, 3]], np.ones((16, 16), dtype=int)).astype(np.uint8)  # 32 x 32 of 4 values


def palette_image() -> Image.Image:
    image = Image.frombytes("P", (32, 32), QUARTERS.tobytes())
    image.putpalette(COLOURS.flatten().tolist())
    return image


def test_a_palette_image_has_its_palettes_colours():
    np.testing.assert_array_equal(only(palette_image()), COLOURS[QUARTERS])


@pytest.mark.parametrize(
    ("transparency", "expected"),
    [
        (1, [[255, 0, 0], [255, 255, 255], [0, 0, 255], [10, 20, 30]]),
        (bytes([255, 0, 255, 0]), [[255, 0, 0], [255, 255, 255], [0, 0, 255], [255, 255, 255]]),
    ],
    ids=["one colour", "alpha of each colour"],
)
def test_a_palettes_transparent_colours_become_white(transparency, expected):
    np.testing.assert_array_equal(only(palette_image(), transparency=transparency), np.array(expected)[QUARTERS])


def test_a_transparent_colour_of_a_true_colour_image_becomes_white():
    expected = np.array([[255, 0, 0], [255, 255, 255], [0, 0, 255], [10, 20, 30]])[QUARTERS]
    np.testing.assert_array_equal(only(COLOURS[QUARTERS], transparency=(0, 255, 0)), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_laid_on_white(mode, channels):
    grey = np.array([0, 200, 100, 100], dtype=np.uint8)[QUARTERS]
    alpha = np.array([0, 0, 255, 51], dtype=np.uint8)[QUARTERS]  # 51 is a fifth
    image = Image.merge(mode, [Image.fromarray(grey)] * (len(mode) - 1) + [Image.fromarray(alpha)])
    expected = np.array([255, 255, 100, 224])[QUARTERS]  # 100 / 5 + 255 * 4 / 5 = 224
    decoded = only(image, channels=channels)
    assert decoded.shape == (32, 32, channels)
    np.testing.assert_allclose(decoded.astype(int), expected[..., None].repeat(channels, 2), atol=1)


def test_cmyk_becomes_colour():
    inks = np.array([[0, 0, 0, 0], [0, 255, 255, 0], [255, 0, 255, 0], [0, 0, 0, 255]], dtype=np.uint8)
    expected = np.array([[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 0]])  # no ink, red, green, black
    np.testing.assert_array_equal(only(Image.fromarray(inks[QUARTERS], mode="CMYK"), "TIFF"), expected[QUARTERS])


def test_one_bit_becomes_black_and_white():
    board = np.indices((32, 32)).sum(0) % 2 == 1
    decoded = only(Image.fromarray(board), channels=1)[..., 0]
    np.testing.assert_array_equal(decoded, np.where(board, 255, 0))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind, channels):
    values = np.array([0, 257 * 100, 257 * 101 + 100, 65535], dtype=np.uint16)
    expected = np.array([0, 100, 101, 255])[QUARTERS]
    decoded = only(Image.fromarray(values[QUARTERS]), kind, channels)
    np.testing.assert_array_equal(decoded, expected[..., None].repeat(channels, 2))


def tiff(image: np.ndarray, order: str, photometric: int, planar: int) -> bytes:
    """An uncompressed TIFF file of an image (H x W x C) in a byte order, `<` or `>`; `planar`: 2 for planes apart."""
    height, width, channels = image.shape
    planes = np.moveaxis(image, -1, 0) if planar == 2 else image[None]
    data = [plane.astype(image.dtype.newbyteorder(order)).tobytes() for plane in planes]
    starts = [8 + len(data[0]) * i for i in range(len(data))]
    bits = [8 * image.itemsize] * channels
    tags = {256: [width], 257: [height], 258: bits, 259: [1], 262: [photometric], 273: starts, 277: [channels]}
    tags |= {278: [height], 279: [len(data[0])] * len(data), 284: [planar]}
    end = 8 + sum(map(len, data))
    table, values = struct.pack(f"{order}H", len(tags)), b""
    for tag, numbers in tags.items():
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            place = end + 6 + 12 * len(tags) + len(values)
            packed, values = struct.pack(f"{order}I", place), values + packed
        table += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + packed
    header = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", end)
    return header + b"".join(data) + table + bytes(4) + values


@pytest.mark.parametrize("planar", [1, 2], ids=["in one", "planes apart"])
@pytest.mark.parametrize(("order", "photometric"), [("<", 0), ("<", 1), (">", 1), ("<", 2), (">", 2)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_tiff_files_of_any_order_are_read_right(order, photometric, planar, kind):
    """Regression: 16 bits became a negative where white is 0, and noise where the colours stand apart."""
    largest = np.iinfo(kind).max
    image = np.random.default_rng(0).integers(0, largest, (32, 32, 3 if photometric == 2 else 1), kind, True)
    expected = np.broadcast_to(largest - image if photometric == 0 else image, (32, 32, 3)) * (255 / largest)
    decoded = folder.decode(tiff(image, order, photometric, planar), "image", 3, 32)
    np.testing.assert_allclose(decoded.transpose(1, 2, 0), expected, atol=1)


def png(depth: int, colour: int, samples: list[int], clear: list[int]) -> bytes:
    """A PNG file of 32 equal rows with these samples of `depth` bits, one colour of them transparent."""
    row = bytes(int(byte, 2) for byte in re.findall("." * 8, "".join(f"{sample:0{depth}b}" for sample in samples)))
    header = struct.pack(">2I5B", 32, 32, depth, colour, 0, 0, 0)
    chunks = [b"IHDR" + header, b"tRNS" + struct.pack(f">{len(clear)}H", *clear)]
    chunks += [b"IDAT" + zlib.compress((b"\0" + row) * 32), b"IEND"]
    framed = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_of_any_depth_becomes_white(depth):
    """Regression: of 2, 4 and 16 bits it was forgotten."""
    levels = 2 ** min(depth, 5)
    samples = [i % levels * ((2**depth - 1) // (levels - 1)) for i in range(32)]
    decoded = folder.decode(png(depth, 0, samples, [samples[1]]), "image", 1, 32)[0, 0]
    expected = [255 if s == samples[1] else s * 255 / (2**depth - 1) for s in samples]
    np.testing.assert_allclose(decoded, expected, atol=1)


def test_a_transparent_colour_of_16_bits_is_refused():
    with pytest.raises(UserError, match=one_line("image", "16 bits", "transparent", "8 bits")):
        folder.decode(png(16, 2, list(range(96)), [3, 4, 5]), "image", 3, 32)


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.swapaxes(0, 1)),
        (6, lambda a: np.rot90(a, -1)),  # clockwise
        (7, lambda a: a[::-1, ::-1].swapaxes(0, 1)),
        (8, lambda a: np.rot90(a)),
    ],
)
def test_an_image_is_turned_as_its_exif_data_say(orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(only(noise(1), exif=exif), turn(noise(1)))


def test_a_text_among_the_exif_data_where_a_number_belongs_does_no_harm():
    """Regression: the image was refused, for a resolution that nobody asks for."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "cam"
    jpeg = encoded(noise(0), "JPEG", exif=exif)
    upright = folder.decode(jpeg, "image", 3, 32)
    np.testing.assert_array_equal(
        folder.decode(jpeg.replace(b"\x01\x0f\x00\x02", b"\x01\x1a\x00\x02"), "image", 3, 32), upright
    )


def with_chunk(kind: bytes, content: bytes, checksum: int | None = None, last: bool = False) -> bytes:
    """A PNG file with one more chunk, behind the header or before the end."""
    png = encoded(noise(0))
    at = len(png) - 12 if last else 33
    crc = zlib.crc32(kind + content) if checksum is None else checksum
    return png[:at] + struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc) + png[at:]


LONG = zlib.compress(bytes(2_000_000))


@pytest.mark.parametrize(
    "data",
    [
        with_chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"profile"), checksum=0),
        with_chunk(b"iCCP", b"icc\0\0" + LONG),
        *(with_chunk(b"tEXt", b"Comment\0a text", checksum=0, last=last) for last in (False, True)),
        *(with_chunk(b"zTXt", b"Comment\0\0" + LONG, last=last) for last in (False, True)),
        with_chunk(b"eXIf", b"MM\0*", checksum=0),
        with_chunk(b"eXIf", b"no EXIF data"),
        with_chunk(b"pHYs", b"short"),
    ],
)
def test_damaged_side_data_do_not_cost_an_image(data):
    """Regression: all of the folder was refused, since the format of this image were unknown."""
    np.testing.assert_array_equal(folder.decode(data, "image", 3, 32).transpose(1, 2, 0), noise(0))


def test_all_images_that_cannot_be_used_are_named_at_once_up_to_ten(tmp_path):
    """Regression: five of them took six runs."""
    path = write(tmp_path / "own", photos(n=20) | {f"cat/bad{i:02}.png": b"" for i in range(12)})
    with pytest.raises(UserError, match=one_line("bad00", "bad09", "and 2 more")) as refusal:
        read(path)
    assert "bad10" not in str(refusal.value)


def test_colour_becomes_grey_by_luminance_and_grey_becomes_colour():
    grey = only(COLOURS[QUARTERS], channels=1)
    np.testing.assert_allclose(grey[[0, 0, -1, -1], [0, -1, 0, -1], 0], [76, 150, 29, 18], atol=1)
    levels = noise(2)[..., 0]
    np.testing.assert_array_equal(only(levels), np.dstack([levels] * 3))


@pytest.mark.parametrize("upright", [False, True])
def test_the_centre_square_of_a_longer_image_is_used(upright):
    image = np.concatenate([np.full_like(noise(0), (255, 0, 0)), noise(3), np.full_like(noise(0), (0, 0, 255))], 1)
    image, expected = (image.swapaxes(0, 1), noise(3).swapaxes(0, 1)) if upright else (image, noise(3))
    np.testing.assert_array_equal(only(np.ascontiguousarray(image)), expected)


@pytest.mark.parametrize("size", [28, 32])
@pytest.mark.parametrize(("height", "width"), [(640, 640), (300, 1000), (1000, 300), (20, 23)])
def test_images_of_any_shape_are_resized(height, width, size):
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[:, width // 2 :] = 255
    decoded = only(image, size=size)
    assert decoded.shape == (size, size, 3)
    assert decoded[:, : size // 2 - 4].max() <= 5  # the edge in the centre stays there
    assert decoded[:, size // 2 + 4 :].min() >= 250


@pytest.mark.parametrize("suffix", ["bmp", "gif", "jpeg", "jpg", "pgm", "png", "ppm", "tif", "tiff", "webp", "JPG"])
def test_every_allowed_kind_of_file_is_read(tmp_path, suffix):
    kind = {"jpg": "JPEG", "tif": "TIFF", "pgm": "PPM"}.get(suffix.lower(), suffix.upper())
    grey = encoded(np.full((40, 40), 90, dtype=np.uint8), kind)
    train, _ = read(write(tmp_path / "own", {f"{label}/{i}.{suffix}": grey for label in "ab" for i in range(3)}))
    assert train.x.shape == (6, 3, 32, 32)
    assert (train.x.int() - 90).abs().max() <= 2


def test_an_animated_gif_gives_its_first_frame():
    frames = [Image.fromarray(np.full((32, 32), level, dtype=np.uint8)) for level in (40, 200)]
    decoded = only(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decoded, np.full((32, 32, 3), 40))


# Refusals: folders and archives


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        ({}, ["holds no image", "allowed are", ".jpeg", ".png"]),
        ({"cat/a.txt": b"", "dog/b.svg": b""}, ["holds no image", "allowed are"]),
        (photos(("",)), ["has no class", "put the images of each of at least two classes into a folder"]),
        (
            photos(("cat",)),
            ["has only the class 'cat'", "put the images of each of at least two classes into a folder"],
        ),
        (photos(n=3) | photos(("elk",), 2), ["class 'elk' has 2 images", "at least 3"]),
        (photos(n=3) | photos(("elk",), 1), ["class 'elk' has 1 images", "at least 3"]),
        (photos(n=1, top="train/") | photos(n=5, top="test/"), ["class 'cat' has 1 images", "at least 2"]),
        (
            photos(top="train/") | photos(("cat", "elk"), top="test/"),
            ["class 'elk' is in test but not in train", "every class must be in train"],
        ),
        (photos(("cat",), top="train/") | photos(top="test/"), ["only the class 'cat'", "at least two classes"]),
        (
            photos(top="train/") | photos(("cat",), top="test/"),
            ["class 'dog' is in train but not in test", "every class must be in both"],
        ),
    ],
    ids=[
        *("empty", "no image file", "images without a class", "one class", "two images in a class"),
        *(
            "one image in a class",
            "one image to train on",
            "class in test only",
            "one class in train",
            "class in train only",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_a_folder_that_cannot_be_split_into_classes_is_refused(tmp_path, kind, files, parts):
    files = {name.removeprefix("/"): data for name, data in files.items()}
    path = write(tmp_path / "own", files) if kind == "folder" else archive(tmp_path / f"own.{kind}", files)
    with pytest.raises(UserError, match=one_line(path, *parts)):
        read(path)


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
@pytest.mark.parametrize("content", ["", "a.txt", "a.heic", "@eaDir/a.png", ".a.png"])
def test_a_class_without_a_usable_image_is_refused(tmp_path, kind, content):
    """Regression: it vanished."""
    path = write(tmp_path / "own", photos() | {f"elk/{content or 'a'}": encoded(noise(9))})
    if not content:
        (path / "elk" / "a").unlink()
    if kind in ("zip", "tar"):
        path = shutil.make_archive(str(path), kind, path)
    with pytest.raises(UserError, match=one_line(path, "'elk' has 0 images", "at least 3")):
        folder.fingerprint(path)


@pytest.mark.parametrize("entry", [folder.fingerprint, read], ids=["fingerprint", "read"])
def test_a_missing_path_is_refused(tmp_path, entry):
    with pytest.raises(
        UserError, match=one_line(tmp_path / "nowhere", "does not exist", "give a folder, a zip or a tar")
    ):
        entry(tmp_path / "nowhere")


@pytest.mark.parametrize("data", [b"", b"a text", encoded(noise(0))], ids=["empty", "text", "image"])
def test_a_file_that_is_no_archive_is_refused(tmp_path, data):
    write(tmp_path, {"own.zip": data})
    with pytest.raises(UserError, match=one_line(tmp_path / "own.zip", "no folder, zip or tar of images")):
        read(tmp_path / "own.zip")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
@pytest.mark.parametrize("kind", ARCHIVES)
def test_a_truncated_archive_is_refused(tmp_path, kind, share):
    path = archive(tmp_path / f"own.{kind}", photos())
    data = path.read_bytes()
    if kind == "tar":
        data = data.rstrip(b"\0")  # without the padding, which is nothing to lose
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=one_line(path, "damaged")):
        read(path)


def test_a_zip_with_a_wrong_checksum_is_refused(tmp_path):
    files = photos()
    path = archive(tmp_path / "own.zip", files)
    data = bytearray(path.read_bytes())
    data[data.index(files["cat/0.png"]) + 1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=one_line(path, "cannot be read", "cat/0.png", "damaged")):
        read(path)


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_compressed_archive_with_overwritten_bytes_is_refused(tmp_path, kind):
    files = {f"{label}/{i}.bmp": encoded(noise(i) // 64, "BMP") for label in "ab" for i in range(4)}  # compressible
    path = archive(tmp_path / f"own.{kind}", files)
    data = bytearray(path.read_bytes())
    half = len(data) // 2
    data[half : half + 100] = b"\xff" * 100
    path.write_bytes(data)
    with pytest.raises(UserError, match=one_line(path, "damaged")):
        read(path)


def test_a_tar_gz_with_a_wrong_checksum_is_refused(tmp_path):
    path = archive(tmp_path / "own.tar.gz", photos())
    data = bytearray(path.read_bytes())
    data[-8] ^= 1  # of the CRC-32 of everything before
    path.write_bytes(data)
    with pytest.raises(UserError, match=one_line(path, "damaged")):
        read(path)


def cut_off(data: bytearray, at: int) -> bytes:
    return bytes(data[:at])


def overwrite(data: bytearray, at: int) -> bytes:
    return bytes(data[:at] + b"\xff" * 512 + data[at + 512 :])


@pytest.mark.parametrize("damage", [cut_off, overwrite])
@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["tar", "tar.gz"])
def test_a_tar_that_is_damaged_between_two_images_is_refused(tmp_path, compress, damage):
    path = archive(tmp_path / "own.tar", photos())
    with tarfile.open(path) as t:
        at = t.getmember("dog/3.png").offset  # all before it would be enough for two classes
    path.write_bytes(compress(damage(bytearray(path.read_bytes()), at)))
    with pytest.raises(UserError, match=one_line(path, "damaged")):
        read(path)


def test_an_encrypted_zip_is_refused(tmp_path):
    path = tmp_path / "own.zip"
    with zipfile.ZipFile(path, "w") as z:
        for name, data in photos().items():
            z.writestr(name, data)
        for member in z.infolist():
            member.flag_bits |= 1
    with pytest.raises(UserError, match=one_line(path, "cannot be read", "password", "protected")):
        read(path)


@pytest.mark.parametrize(
    "name", ["../evil.png", "cat/../../evil.png", "/etc/evil.png", r"..\evil.png", r"C:\evil.png", "C:/evil.png"]
)
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.xz"])
def test_an_archive_with_a_member_that_leads_outside_is_refused(tmp_path, kind, name):
    path = archive(tmp_path / f"own.{kind}", photos() | {name: encoded(noise(9))})
    for entry in (folder.fingerprint, read):
        with pytest.raises(UserError, match=one_line(path, "evil.png", "leads outside the archive")):
            entry(path)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_colon_in_a_class_and_a_member_without_a_name_are_no_way_out(tmp_path, kind):
    """Regression: the first was refused, the second an IndexError."""
    files = photos(("time: noon", "a: b")) | {".": b"a note"}
    assert read(archive(tmp_path / f"own.{kind}", files))[0].classes == ("a: b", "time: noon")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE], ids=["symbolic", "hard"])
def test_a_link_in_a_tar_to_a_file_outside_is_not_followed(tmp_path, kind):
    secret = write(tmp_path, {"secret.png": encoded(noise(9))}) / "secret.png"
    path = archive(tmp_path / "own.tar", photos())
    before = folder.fingerprint(path)
    with tarfile.open(path, "a") as t:
        link = tarfile.TarInfo("cat/link.png")
        link.type, link.linkname = kind, str(secret)
        t.addfile(link)
    assert folder.fingerprint(path) == before
    assert len(read(path)[0]) == 8


def test_a_class_that_is_a_link_in_a_tar_to_a_folder_outside_is_not_followed(tmp_path):
    outside = write(tmp_path / "outside", photos(("elk",)))
    path = archive(tmp_path / "own.tar", photos())
    with tarfile.open(path, "a") as t:
        link = tarfile.TarInfo("elk")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside / "elk")
        t.addfile(link)
    assert read(path)[0].classes == ("cat", "dog")


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_links_to_files_of_a_tar_count_as_in_the_folder_and_others_are_named(tmp_path, kind, capsys):
    """Regression: 8 + 4 images of a folder were 4 + 4 of its tar, without a word."""
    path = write(tmp_path / "own", photos())
    for i in range(3):
        (path / f"cat/link{i}.png").symlink_to(["3.png", "../cat/2.png", "link0.png"][i])
    (path / "elk").symlink_to("dog")
    (path / "cat/link3.png").symlink_to("../elk/0.png")
    (path / "dog/link4.png").symlink_to("../cat/link3.png")
    for name, place in (("up", "."), ("nowhere", "gone")):
        (path / "cat" / name).symlink_to(place)
    with tarfile.open(tmp_path / f"own.{kind}", f"w:{kind[4:]}") as t:
        t.add(path, "own")
    assert len(read(tmp_path / f"own.{kind}", key="tar")[0]) == len(read(path, key="folder")[0]) == 18
    assert folder.fingerprint(tmp_path / f"own.{kind}") == folder.fingerprint(path)
    assert capsys.readouterr().err.count("left out are 2 links that lead to no file") == 2


def test_a_hard_linked_copy_in_a_tar_counts_as_in_the_folder(tmp_path):
    path = write(tmp_path / "own", photos())
    os.link(path / "cat/0.png", path / "cat/copy.png")
    with tarfile.open(tmp_path / "own.tar", "w") as t:
        t.add(path, "own")
    assert len(read(tmp_path / "own.tar", key="tar")[0]) == len(read(path, key="folder")[0]) == 9


def test_a_tar_that_ends_with_a_zip_is_still_a_tar(tmp_path):
    inner = archive(tmp_path / "inner.zip", {"notes.txt": b"a note"}).read_bytes()
    path = archive(tmp_path / "own.tar", photos() | {"extra.zip": inner})
    assert len(read(path)[0]) == 8


# Refusals: images

JPEG = encoded(noise(0), "JPEG")


@pytest.mark.parametrize(
    ("name", "data", "parts"),
    [
        ("5.png", b"", ["cannot be read as an image", "replace or remove it"]),
        ("5.jpg", b"<html>not found</html>", ["cannot be read as an image", "replace or remove it"]),
        ("5.png", encoded(noise(0))[:1000], ["cannot be read as an image", "replace or remove it"]),
        ("5.jpg", JPEG[: len(JPEG) // 2], ["cannot be read as an image", "replace or remove it"]),
        ("5.gif", encoded(noise(0), "GIF")[:900], ["cannot be read as an image", "replace or remove it"]),
        ("5.png", encoded(noise(0, 15, 40)), ["is 40 x 15 pixels", "must have at least 16 a side"]),
        ("5.png", encoded(noise(0, 1, 1)), ["is 1 x 1 pixels", "must have at least 16 a side"]),
        (
            "5.tif",
            encoded(np.ones((40, 40), np.float32), "TIFF"),
            ["floating-point pixels", "save it with 8 or 16 bits"],
        ),
        (
            "5.tif",
            encoded(np.full((40, 40), 20_000, np.uint16), "TIFF", tiffinfo={339: 2}),
            ["signed pixels", "save it with 8 or 16 bits"],
        ),
        (
            "5.png",
            encoded(np.full((40, 40), 4095, np.uint16)),
            ["grey values from 4095 to 4095", "16 bits that use 0 to 65535", "scale them"],
        ),
        (
            "5.tif",
            encoded(np.full((40, 40), 70_000, np.int32), "TIFF"),
            ["grey values from 70000 to 70000", "scale them"],
        ),
    ],
    ids=[
        *("empty", "text", "truncated png", "truncated jpeg", "truncated gif", "too low", "one pixel"),
        *("float", "signed", "12 bits in 16", "more than 16 bits"),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_an_image_that_cannot_be_used_is_named(tmp_path, kind, name, data, parts):
    files = photos() | {f"dog/{name}": data}
    path = write(tmp_path / "own", files) if kind == "folder" else archive(tmp_path / "own.zip", files)
    with pytest.raises(UserError, match=one_line(f"dog/{name}", *parts)):
        read(path)


@pytest.mark.parametrize("kind", ["EPS", "ICO"])
def test_a_format_that_is_not_allowed_is_not_opened_whatever_its_name(kind, monkeypatch):
    """Regression: an EPS file named .jpg started Ghostscript."""
    data = encoded(noise(0), kind)
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    with pytest.raises(UserError, match=one_line("5.jpg", "cannot be read as an image")):
        folder.decode(data, "5.jpg", 3, 32)


@pytest.mark.parametrize("size", [28, 32])
def test_an_image_of_half_the_size_is_enough(size):
    assert only(noise(0, size // 2, size // 2), size=size).shape == (size, size, 3)


TWO = ("cat/0.png", "dog/0.png")  # in each of some folders


@pytest.mark.parametrize(
    "files",
    [
        *({"train": TWO, other: TWO} for other in ("val", "test1")),
        *(
            {a: TWO, b: TWO}
            for a, b in (("Train", "Test"), ("train_images", "val2"), ("TRAIN", "TEST"), ("testA", "testB"))
        ),
        {"seg_train": TWO, "seg_test": TWO, "seg_pred": TWO},
        {"seg_train": TWO, "seg_test": TWO, "seg_pred": ("0.png",)},
        {f"seg_{part}": [f"seg_{part}/{name}" for name in TWO] for part in ("a", "b")},
        {f"fold{i}": [f"{i}.png"] for i in range(5)},
        {"colour": TWO, "grey": TWO},
        {"colour": TWO, "grey": ("cat/0.png", "elk/0.png", "dog/0.png")},
        {"amazon": ["images/cat/0.png", "images/dog/0.png"], "dslr": ["images/cat/0.png", "images/dog/0.png"]},
        {"cells": ("cat/0.png", "dog/0.png"), "cat": ("1.png",), "dog": ("1.png",)},
        {"images": TWO, "annotations": ("trimaps/0.png",)},
        {"images": ("0.png",), "masks": ("0.png",)},
        {"JPEGImages": ("0.png",), "SegmentationClass": ("0.png",)},  # as VOC has them
        {"train": ("a/cat/0.png", "a/dog/0.png", "b/cat/0.png", "b/dog/0.png"), "test": ("a/cat/0.png", "b/cat/0.png")},
    ],
)
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_level_above_the_classes_is_not_taken_for_them(tmp_path, kind, files):
    """Regression: folders such as seg_train and seg_test became the classes."""
    names = [f"{top}/{name.replace('0.png', f'{i}.png')}" for top in files for name in files[top] for i in range(4)]
    files = {name: encoded(noise(i)) for i, name in enumerate(names)}
    path = write(tmp_path / "own", files) if kind == "folder" else archive(tmp_path / "own.zip", files)
    with pytest.raises(UserError, match=one_line(path, "a level above the classes")):
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


def test_the_classes_are_told_with_their_images(tmp_path, capsys):
    folder.fingerprint(write(tmp_path / "own", photos(n=3, top="train/") | photos(n=2, top="test/", seed=1)))
    assert "2 classes, images to train and to test: cat (3 + 2), dog (3 + 2)" in capsys.readouterr().err


def test_a_loose_image_beside_the_classes_of_an_archives_own_folder_is_ignored(tmp_path):
    files = photos(top="own/")
    train, _ = read(archive(tmp_path / "own.zip", {"own/logo.png": encoded(noise(9)), **files}))
    assert (len(train), train.classes) == (8, ("cat", "dog"))
