"""Downloads over HTTP and unpacking of archives: resumed, checked, and never left half-written."""

import http.client
import lzma
import os
import shutil
import tarfile
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from util.files import CHUNK, fingerprint, state_of, whole_digest, write_atomically
from util.files.errors import UserError
from util.files.progress import ProgressBar

PARTIAL, RANGE_IMPOSSIBLE = 206, 416  # HTTP
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, RuntimeError, OSError)


def fetch(url: str, target: Path, checksum: str | None = None) -> Path:
    """Return ``target`` after downloading it; ``<target's name>.part`` of an interrupted call is continued.

    An existing target is not downloaded again, only compared with the checksum (``"md5:<hex>"`` or ``"sha256:<hex>"``,
    of which the first digits suffice; None checks the length that the server states). A server that does not support
    ranges sends the whole file again. UserError: no connection, or a broken one, which the same call continues; a wrong
    checksum (the ``.part`` is removed, an existing target stays).
    """
    if target.exists():
        return _checked(target, checksum, url)
    part = target.with_name(f"{target.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        with part.open("ab") as file:
            _download(url, file, target.name)
    except (OSError, http.client.HTTPException) as error:
        if getattr(error, "code", None) == RANGE_IMPOSSIBLE or not part.stat().st_size:
            part.unlink()  # longer than the server's file: of another file; or empty
        fix = f"run the same command again to continue, or download it by hand and put it at {target}"
        raise UserError(f"{url}: {error}; {fix}") from None
    try:
        os.replace(_checked(part, checksum, url), target)
    except UserError:
        part.unlink()
        raise
    return target


def _download(url: str, file: IO[bytes], title: str) -> None:
    """Write the rest of a file after the bytes that it has; ConnectionError: the connection broke."""
    start = max(file.tell() - 1, 0)  # requests the last byte again, because an empty range is an error
    headers = {"Range": f"bytes={start}-"} if start else {}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as response:  # seconds without a byte
        sent_range = response.headers.get("Content-Range", "")
        if response.status != PARTIAL or not sent_range.startswith(f"bytes {start}-"):
            start = 0  # the server sends the whole file
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        file.truncate(start)
        with ProgressBar(total=total, initial=start, desc=title, unit="B", unit_scale=True) as bar:
            while chunk := response.read1(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and bar.n < total:
        raise ConnectionError(f"the connection broke after {bar.n} of {total} bytes")


def _checked(path: Path, checksum: str | None, url: str) -> Path:
    """Return a file after comparing it with a checksum, written as in ``fetch``."""
    if checksum is None:
        return path
    algorithm, _, expected = checksum.partition(":")
    if not whole_digest(path, algorithm).startswith(expected.lower()):
        raise UserError(f"{path}: its checksum is not {checksum} of {url}; remove it and run this again")
    return path


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a zip or tar (plain, gz, bz2, xz) beside a folder, move the files into it at the end, and return it.

    Links and special files are ignored; access rights and times are not restored. An archive that was unpacked before
    is skipped. UserError: the archive is cut short, damaged or of another format, or a name leads out of the folder;
    nothing is unpacked then.
    """
    aside = folder / f".{archive.name}.unpacking"
    stamp = folder / f".{archive.name}.unpacked"
    made_from = fingerprint(archive.name, *state_of(archive))
    if stamp.exists() and stamp.read_text() == made_from:
        return folder
    shutil.rmtree(aside, ignore_errors=True)  # of an interrupted call
    try:
        files = _files_in_zip if zipfile.is_zipfile(archive) else _files_in_tar
        for name, content in ProgressBar(files(archive), desc=f"unpack {archive.name}", unit="file"):
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name:
                raise UserError(f"{archive}: its file '{name}' would lie outside {folder}; it is not the official one")
            target = aside / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                shutil.copyfileobj(content, file, CHUNK)
        shutil.copytree(aside, folder, copy_function=os.replace, dirs_exist_ok=True)
        write_atomically(stamp, made_from)
    except DAMAGE as error:
        if getattr(error, "errno", None):  # of the disk
            raise
        problem = f"this archive is cut short or damaged ({error})"
        raise UserError(f"{archive}: {problem}; remove it and download it again") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _files_in_zip(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the regular files of an archive: name, and content to read before the next one."""
    with zipfile.ZipFile(archive) as zipped:
        for name in zipped.namelist():
            if name.endswith("/"):
                continue
            with zipped.open(name) as content:
                yield name, content


def _files_in_tar(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with archive.open("rb") as file, tarfile.open(fileobj=file) as tarred:
        for member in tarred:
            if not member.isreg():
                continue
            with tarred.extractfile(member) as content:  # type: ignore[union-attr]  # of regular files never None
                yield member.name, content
        while tarred.fileobj is not None and tarred.fileobj.read(CHUNK):
            pass  # up to the checksum of a compressed archive
