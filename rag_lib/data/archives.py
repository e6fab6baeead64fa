"""The files of a folder, a zip or a tar, alike: an archive is unpacked into a temporary folder."""

import errno
import lzma
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from rag_lib.base import ROOT, UserError

Files = dict[str, Path | None]

# folders that systems make: thumbnails, bins, snapshots
SYSTEM = {
    *("__macosx", "__pycache__", "@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot"),
    *("$recycle.bin", "recycler", "system volume information", "lost+found"),
}
# what the readers of archives raise for damaged, protected and odd ones
DAMAGED = (OSError, EOFError, RuntimeError, UnicodeDecodeError, tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError)
DAMAGED += (zlib.error,)


@contextmanager
def files_of(path: str | Path) -> Iterator[Files]:
    """Give each file of a folder, a zip or a tar by its name: relative, with slashes; a folder's name ends with one.

    None for what is no file: a link that leads to none or, in a folder, a device. A relative path starts at the
    repository. Raises `UserError`, also where one of the files cannot be read.
    """
    path = ROOT / os.path.expanduser(path)
    with tempfile.TemporaryDirectory(prefix="rag_lib-") as room:
        try:
            folder = path if path.is_dir() else unpacked(path, Path(room))
            yield dict(below(folder))
        except OSError as e:
            raise UserError(f"{path} cannot be read ({e}); make its files readable to you") from e


def unpacked(path: Path, room: Path) -> Path:
    """Unpack a zip or a tar into the folder `room`, and return this; raises `UserError`."""
    if not path.exists():
        raise UserError(f"{path} does not exist; give a folder, a zip or a tar with one subfolder a class")
    try:
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                archive.extractall(room, filter="data")  # which refuses what leads out of the archive
                # tarfile takes a broken header for the end, and reads no compressed file to its checksum
                archive.fileobj.seek(archive.offset)
                if archive.fileobj.read(512) != bytes(512):
                    raise tarfile.ReadError("it has no end")
                while archive.fileobj.read(1 << 20):
                    pass
        elif zipfile.is_zipfile(path):
            # many archivers write UTF-8 without saying so
            with zipfile.ZipFile(path, metadata_encoding="utf-8") as archive:
                archive.extractall(room)
        else:
            raise UserError(f"{path} is no folder, zip or tar of images, or it is damaged")
    except DAMAGED as e:
        if getattr(e, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{path} finds no room in {room}; make room, or set TMPDIR to another folder") from e
        raise UserError(
            f"{path} cannot be read ({e}); if it is damaged, protected, or has links that lead out or names that are "
            "no UTF-8, unpack it yourself and give the folder"
        ) from e
    return room


def below(folder: Path, name: str = "", above: tuple[Path, ...] = ()) -> Iterator[tuple[str, Path | None]]:
    """Yield what is in a folder and its subfolders, links to folders among them, but for one that leads back up."""
    above = (*above, folder.resolve())
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.resolve() not in above:
            yield f"{name}{path.name}/", path
            yield from below(path, f"{name}{path.name}/", above)
        else:
            yield name + path.name, path if path.is_file() else None


def visible(name: str) -> str:
    """Return the name up to a part that is a system's own, as macOS leaves in archives; whole where there is none."""
    parts = name.split("/")
    shown = list(takewhile(lambda part: not part.startswith(".") and part.casefold() not in SYSTEM, parts))
    return "/".join(shown if len(shown) == len(parts) else [*shown, ""])
