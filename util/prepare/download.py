"""Downloads over HTTP and unpacking of archives: resumable, checked and atomic."""

from __future__ import annotations

import hashlib
import http.client
import lzma
import os
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


def unpack(
    archive: Path, folder: Path, wanted: Callable[[str], bool] = lambda name: True, title: str | None = None
) -> list[Path]:
    """Unpack the wanted files of a zip or tar (plain, gz, bz2, xz) and return their paths, in the archive's order.

    Each file is written atomically; an existing file of the size in the archive is kept. Folders are created as needed.
    Links and special files in a tar are ignored; access rights and times are not restored.

    Args:
        folder: names in the archive are relative to it; created if missing.
        wanted: predicate on the name of a file in the archive (``"VOCdevkit/VOC2012/JPEGImages/2007_000027.jpg"``).
        title: text of the progress bar; None shows the archive's name.

    Raises:
        UserError: the archive is missing, cut short, damaged or of another format, a wanted name leads out of the
            folder (that file is not written), the disk is full or the folder cannot be written. Files that were
            complete before the error stay, and the same call continues after them; except that of a compressed tar,
            whose only checksum is at its end, the files of this call are removed.
    """
    title = f"unpack {title or archive.name}"
    with archive.open("rb") as file:
        members = _zip_members if file.read(2) == b"PK" else _tar_members
        file.seek(0)
        try:
            return list(members(file, archive, folder, wanted, title))
        except DAMAGE as error:
            raise _damaged(archive, error) from None


def _zip_members(
    file: IO[bytes], archive: Path, folder: Path, wanted: Callable[[str], bool], title: str
) -> Iterator[Path]:
    with zipfile.ZipFile(file) as content:
        members = [m for m in content.infolist() if not m.is_dir() and wanted(m.filename)]
        targets = [_inside(m.filename, folder, archive) for m in members]
        size = sum(m.compress_size for m in members)
        with tqdm(total=size, desc=title, unit="B", unit_scale=True) as bar:
            for member, target in zip(members, targets, strict=True):
                _write(partial(content.open, member), member.file_size, target, archive)
                bar.update(member.compress_size)
                yield target


def _tar_members(
    file: IO[bytes], archive: Path, folder: Path, wanted: Callable[[str], bool], title: str
) -> Iterator[Path]:
    size = archive.stat().st_size
    fresh = []
    with (
        tarfile.open(fileobj=file, mode="r:*") as content,
        tqdm(total=size, desc=title, unit="B", unit_scale=True) as bar,
    ):
        plain = content.fileobj is file
        try:
            for member in content:
                if member.isreg() and wanted(member.name):
                    target = _inside(member.name, folder, archive)
                    if _write(partial(_open_in_tar, content, member), member.size, target, archive):
                        fresh.append(target)
                    yield target
                bar.update(file.tell() - bar.n)
            if plain:  # tarfile treats a damaged header as the end of the archive, which is a block of zeros
                file.seek(content.offset)
                if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise _damaged(archive, f"neither a file nor the end at byte {content.offset}")
            while not plain and content.fileobj is not None and content.fileobj.read(CHUNK):
                pass  # up to the checksum in the last bytes
        except (*DAMAGE, UserError):
            for target in () if plain else fresh:
                target.unlink(missing_ok=True)
            raise


def _open_in_tar(content: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = content.extractfile(member)
    assert file is not None  # regular files only
    return file


def _inside(name: str, folder: Path, archive: Path) -> Path:
    """Return the target of a member; a name that leads out of the folder is refused."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or PureWindowsPath(name).drive or not path.parts:
        raise UserError(f"{archive}: its file '{name}' would lie outside {folder}; this is not the official archive")
    return folder.joinpath(*path.parts)


def _write(open_member: Callable[[], IO[bytes]], size: int, target: Path, archive: Path) -> bool:
    """Write a member unless a file of its size exists; return whether it was written."""
    if target.is_file() and target.stat().st_size == size:
        return False

    def copy(path: Path) -> None:
        with path.open("wb") as out:
            out.writelines(_content(open_member, archive))

    write_atomically(target, copy)
    return True


def _content(open_member: Callable[[], IO[bytes]], archive: Path) -> Iterator[bytes]:
    """Yield a member's bytes; an error while reading them is reported for the archive, not for the target."""
    try:
        with open_member() as member:
            while chunk := member.read(CHUNK):
                yield chunk
    except DAMAGE as error:
        raise _damaged(archive, error) from None


def _damaged(archive: Path, error: Exception | str) -> UserError:
    return UserError(f"{archive}: this archive is cut short or damaged ({error}); remove it and download it again")
