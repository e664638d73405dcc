"""Downloads over HTTP and unpacking of archives: resumable, checked and atomic."""

from __future__ import annotations

import errno
import hashlib
import http.client
import lzma
import os
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from tqdm import tqdm

from util.errors import UserError
from util.files import write_atomically

CHUNK = 1 << 20
TIMEOUT = 60  # seconds without a byte
HTTP_PARTIAL, HTTP_RANGE_IMPOSSIBLE = 206, 416
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, RuntimeError, OSError)


def fetch(url: str, target: Path, checksum: str | None = None, title: str | None = None) -> Path:
    """Return ``target`` after downloading it; ``<target's name>.part`` of an interrupted call is continued.

    An existing target is not downloaded again, only compared with the checksum. The download is renamed to the target
    after the check of the length that the server states and of the checksum. A server that does not support ranges
    sends the whole file again. Only the checksum detects a file that changed on the server between two calls.

    Args:
        checksum: ``"md5:<hex>"``, ``"sha256:<hex>"`` or another algorithm of hashlib; None checks the length alone.
        title: text of the progress bar; None shows the target's name.

    Raises:
        UserError: no connection, or the server refuses (the message has the URL and the target for a manual download);
            the connection broke (the same call continues); a wrong checksum (the ``.part`` is removed, an existing
            target stays).
    """
    title = title or target.name
    if target.exists():
        if checksum and not _matches(target, checksum, title):
            raise UserError(f"{target}: its checksum is not {checksum} of {url}; remove it and run this again")
        return target
    part = target.with_name(target.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        with part.open("ab") as file:
            _download(url, file, target, title)
    except UserError:
        if not part.stat().st_size:
            part.unlink()
        raise
    if checksum and not _matches(part, checksum, title):
        part.unlink()
        raise UserError(f"{url}: the download has not the checksum {checksum} and was removed; run this again")
    os.replace(part, target)
    return target


def _download(url: str, file: IO[bytes], target: Path, title: str) -> None:
    """Append the missing rest of a URL's content to a file."""
    start = max(file.tell() - 1, 0)  # requests the last byte again, because an empty range is an error
    elsewhere = f"download it by hand, put it at {target} and run the same command again"
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if start and error.code == HTTP_RANGE_IMPOSSIBLE:  # longer than the server's file: another file
            file.seek(0)
            file.truncate()
            return _download(url, file, target, title)
        raise UserError(f"{url}: the server answers {error.code} ({error.reason}); {elsewhere}") from None
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"{url}: cannot be reached ({getattr(error, 'reason', error)}); {elsewhere}") from None
    with response:
        continued = response.status == HTTP_PARTIAL and response.headers.get("Content-Range", "").startswith(
            f"bytes {start}-"
        )
        start = start if continued else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        file.truncate(start)
        with tqdm(total=total, initial=start, desc=title, unit="B", unit_scale=True) as bar:
            for chunk in _received(response, url, bar):
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and bar.n < total:
        file.flush()
        raise UserError(_broken(url, bar, "it ended early"))
    return None


def _received(response: http.client.HTTPResponse, url: str, bar: tqdm) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read1(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise UserError(_broken(url, bar, str(error) or type(error).__name__)) from None
        if not chunk:
            return
        yield chunk


def _broken(url: str, bar: tqdm, why: str) -> str:
    of = "" if bar.total is None else f" of {bar.total}"
    return f"{url}: the connection broke after {bar.n}{of} bytes ({why}); run the same command again to continue"


def _matches(path: Path, checksum: str, title: str) -> bool:
    """Return whether a file has a checksum, written as in ``fetch``."""
    algorithm, _, wanted = checksum.partition(":")
    digest = hashlib.new(algorithm)
    size = path.stat().st_size
    with path.open("rb") as file, tqdm(total=size, desc=f"{title}: {algorithm}", unit="B", unit_scale=True) as bar:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest() == wanted.lower()


def unpack(archive: Path, folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> list[Path]:
    """Unpack the wanted files of a zip or tar (plain, gz, bz2, xz) and return their paths, in the archive's order.

    Each file is written atomically; an existing file of the size in the archive is kept. Links and special files are
    ignored; access rights and times are not restored.

    Args:
        folder: names in the archive are relative to it; created if missing.
        wanted: predicate on the name of a file in the archive (``"VOCdevkit/VOC2012/JPEGImages/2007_000027.jpg"``).

    Raises:
        UserError: the archive is cut short, damaged or of another format, a wanted name leads out of the folder (that
            file is not written), or the disk is full. The same call continues after the files that are complete;
            those of a damaged tar are removed, because a single file in it has no checksum.
    """
    out: list[Path] = []
    written: list[Path] = []
    bar = tqdm(total=archive.stat().st_size, desc=f"unpack {archive.name}", unit="B", unit_scale=True)
    try:
        for name, size, content, position in _files_in(archive):
            bar.update(position - bar.n)
            if not wanted(name):
                continue
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name or PureWindowsPath(name).drive:
                raise UserError(
                    f"{archive}: its file '{name}' would lie outside {folder}; this is not the official archive"
                )
            target = folder.joinpath(*path.parts)
            if not (target.is_file() and target.stat().st_size == size):
                write_atomically(target, partial(_copy, content))
                written.append(target)
            out.append(target)
    except DAMAGE as error:
        for target in () if zipfile.is_zipfile(archive) else written:  # only a zip has a checksum of each file
            target.unlink()
        raise UserError(
            f"{archive}: this archive is cut short or damaged ({error}); remove it and download it again"
        ) from None
    finally:
        bar.close()
    return out


def _files_in(archive: Path) -> Iterator[tuple[str, int, Callable[[], IO[bytes]], int]]:
    """Yield name, size, opener and position (bytes) of each file of an archive."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for member in zipped.infolist():
                if not member.is_dir():
                    yield member.filename, member.file_size, partial(zipped.open, member), member.header_offset
        return
    with archive.open("rb") as file, tarfile.open(fileobj=file) as tarred:
        for part in tarred:
            if part.isreg():
                yield part.name, part.size, partial(_extracted, tarred, part), file.tell()
        while tarred.fileobj is not None and tarred.fileobj.read(CHUNK):
            pass  # up to the checksum of a compressed archive


def _extracted(content: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = content.extractfile(member)
    assert file is not None  # regular files only
    return file


def _copy(content: Callable[[], IO[bytes]], path: Path) -> None:
    """Write a member; an error of the archive is raised as such, not as one of the target."""
    with path.open("wb") as out:
        try:
            with content() as file:
                shutil.copyfileobj(file, out, CHUNK)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise tarfile.ReadError(str(error)) from None
