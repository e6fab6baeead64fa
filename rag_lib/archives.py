"""The files of a folder, a zip or a tar, alike: their names and their bytes."""

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from rag_lib.errors import UserError
from rag_lib.paths import ROOT


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
            for file in files_below(path):
                yield file.relative_to(path).as_posix(), file.read_bytes() if with_data else b""
        elif not path.exists():
            raise UserError(f"{path} does not exist; give a folder, a zip or a tar with one subfolder a class")
        elif zipfile.is_zipfile(path) and not tarfile.is_tarfile(path):
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    if not member.is_dir():
                        yield inside(name_of(member), path), archive.read(member) if with_data else b""
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


def files_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The files in a folder and its subfolders, links to folders among them; one that leads back up is not followed."""
    real = folder.resolve()
    if real not in above:
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                yield from files_below(path, (*above, real))
            elif path.is_file():
                yield path


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


def hidden(name: str) -> bool:
    """Whether the file is a system's own, as macOS leaves in archives."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)
