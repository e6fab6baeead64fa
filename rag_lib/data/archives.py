"""The files of a folder, a zip or a tar, alike: their names and their bytes."""

import lzma
import os
import posixpath
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import takewhile
from pathlib import Path, PurePosixPath, PureWindowsPath

from rag_lib.base import ROOT, UserError

Entry = tuple[str, bytes | None]

# folders that systems make: thumbnails, bins, snapshots
SYSTEM = {
    *("__macosx", "__pycache__", "@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot"),
    *("$recycle.bin", "recycler", "system volume information", "lost+found"),
}


def entries(path: str | Path, with_data: bool = True) -> Iterator[Entry]:
    """Name (relative, with slashes) and bytes of each file of a folder, a zip or a tar; a folder's name ends with one.

    None in place of the bytes of what is no file: a link that leads to none or out of the archive, or a device. A
    relative path starts at the repository. Nothing is unpacked to disk; an archive with a member that leads outside
    is refused all the same.
    """
    path = ROOT / os.path.expanduser(path)
    try:
        if path.is_dir():
            yield from entries_below(path, path, with_data)
        elif not path.exists():
            raise UserError(f"{path} does not exist; give a folder, a zip or a tar with one subfolder a class")
        elif zipfile.is_zipfile(path) and not tarfile.is_tarfile(path):
            yield from entries_of_zip(path, with_data)
        elif tarfile.is_tarfile(path):
            yield from entries_of_tar(path, with_data)
        else:
            raise UserError(f"{path} is no folder, zip or tar of images, or it is damaged")
    except (OSError, EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error) as e:
        raise UserError(f"{path} cannot be read ({e}); it may be damaged, protected or incomplete") from e


def entries_below(folder: Path, top: Path, with_data: bool, above: tuple[Path, ...] = ()) -> Iterator[Entry]:
    """Yield those in a folder and its subfolders, links to folders among them, but for one that leads back up."""
    real = folder.resolve()
    for path in sorted(folder.iterdir()):
        name = path.relative_to(top).as_posix()
        if path.is_dir() and path.resolve() not in (*above, real):
            yield f"{name}/", b""
            yield from entries_below(path, top, with_data, (*above, real))
        elif path.is_file():
            yield name, path.read_bytes() if with_data else b""
        else:
            yield name, None


def entries_of_zip(path: Path, with_data: bool) -> Iterator[Entry]:
    files, links = {}, {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = inside(name_of(member), path)
            if member.is_dir():
                yield f"{name}/", b""
            elif stat.S_ISLNK(member.external_attr >> 16):
                links[name] = beside(name, archive.read(member).decode(errors="surrogateescape"))
            else:
                files[name] = member
                yield name, archive.read(member) if with_data else b""
        for name, source in resolved(links, files):
            yield name, source and (archive.read(source) if with_data else b"")


def entries_of_tar(path: Path, with_data: bool) -> Iterator[Entry]:
    files, links = {}, {}
    with tarfile.open(path) as archive:
        for member in archive:
            name = inside(member.name, path)
            if member.isdir():
                yield f"{name}/", b""
            elif member.isfile():
                files[name] = member
                yield name, archive.extractfile(member).read() if with_data else b""
            else:  # a link, or a device, which leads nowhere
                links[name] = beside(name if member.issym() else "", member.linkname)
        # tarfile takes a broken header for the end, and reads no compressed file to its checksum
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(512) != bytes(512):
            raise tarfile.ReadError("it has no end")
        while archive.fileobj.read(1 << 20):
            pass
        # in the order of the files, since every step back in a compressed archive starts at its beginning
        read = lru_cache(1)(lambda source: archive.extractfile(source).read() if with_data else b"")
        for name, source in sorted(resolved(links, files), key=lambda pair: pair[1].offset if pair[1] else 0):
            yield name, source and read(source)


def beside(name: str, target: str) -> str:
    """Return where a link of this name leads, in the archive."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target))


def resolved(links: Mapping[str, str], files: Mapping[str, object]) -> Iterator[tuple[str, object | None]]:
    """Yield each link's name and the file it leads to; None where it leads to none.

    A link to a folder stands for what is in it, unless it leads back up.
    """
    folders = {parent.as_posix() for name in files for parent in PurePosixPath(name).parents[:-1]} if links else set()
    for name in links:
        end = real(name, links)
        if end in folders and not name.startswith(f"{end}/"):
            below = (other for other in (*files, *links) if other.startswith(f"{end}/"))
            yield from ((name + other.removeprefix(end), files.get(real(other, links))) for other in below)
        else:
            yield name, files.get(end)


def real(name: str, links: Mapping[str, str], most: int = 40) -> str:
    """Return where a name leads once links on its way are followed, at most as many as Linux follows."""
    parts = name.split("/")
    for i in range(1, len(parts) + 1):
        if most and (end := links.get("/".join(parts[:i]))):
            return real(posixpath.join(end, *parts[i:]), links, most - 1)
    return name


def name_of(member: zipfile.ZipInfo) -> str:
    """Its name as UTF-8, which many archivers write without saying so; zipfile then reads it in an old code page."""
    if member.flag_bits & 0x800:
        return member.filename
    try:
        return member.filename.encode("cp437").decode(errors="surrogateescape")
    except UnicodeEncodeError:  # newer Pythons look for a name in UTF-8 elsewhere, too, and found it
        return member.filename


def inside(name: str, archive: Path) -> str:
    """`name` in normal form; raises `UserError` where it leads out of the archive."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or PureWindowsPath(name).is_absolute():
        raise UserError(f"{archive}: the member {name!r} leads outside the archive; it is not used")
    return parts.as_posix()


def visible(name: str) -> str:
    """Return the name up to a part that is a system's own, as macOS leaves in archives; whole where there is none."""
    parts = name.split("/")
    shown = list(takewhile(lambda part: not part.startswith(".") and part.casefold() not in SYSTEM, parts))
    return "/".join(shown if len(shown) == len(parts) else [*shown, ""])
