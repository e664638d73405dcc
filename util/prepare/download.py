"""Fetch official files over HTTP and unpack their archives: resumable, checked, whole or not there."""

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
    """Return ``target`` after downloading it; what an interrupted call left in ``<target's name>.part`` is continued.

    A target that is there already is not downloaded, only compared with the checksum. The target appears by renaming,
    after the length that the server tells and the checksum are found right. A server that cannot continue sends the
    whole file again. A file that changed on the server between two calls is noticed by the checksum alone.

    Args:
        checksum: ``"md5:<hex>"``, ``"sha256:<hex>"`` or another algorithm of hashlib; None checks the length alone.
        title: what the progress bar says; None says the target's name.

    Raises:
        UserError: no network, or the server refuses (names the URL and where to put the file by hand); the connection
            broke (the same call continues); a wrong checksum (the ``.part`` is removed; a target that was there
            already stays); the disk is full or the folder cannot be written.
    """
    title = title or target.name
    if target.exists():
        if checksum and not _matches(target, checksum, title):
            raise UserError(f"{target}: its checksum is not {checksum} of {url}; remove it and run this again")
        return target
    part = target.with_name(target.name + ".part")
    try:
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
            raise UserError(f"{url}: what arrived has not the checksum {checksum} and was removed; run this again")
        os.replace(part, target)
    except OSError as error:  # errors of the network have become UserErrors before
        raise UserError(
            f"{part}: cannot be written ({error.strerror}); free some space or name another folder"
        ) from None
    return target


def _download(url: str, file: IO[bytes], target: Path, title: str) -> None:
    """Append to a file what it lacks of a URL."""
    start = max(file.tell() - 1, 0)  # the last byte comes again: of a complete file no server can send less
    elsewhere = f"download it elsewhere, put it at {target} and run the same command again"
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if start and error.code == HTTP_RANGE_IMPOSSIBLE:  # more than the server has: not this file
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
    return (
        f"{url}: the connection broke after {bar.n}{of} bytes ({why}); run the same command again, it continues there"
    )


def _matches(path: Path, checksum: str, title: str) -> bool:
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
    """Unpack the wanted files of a zip or of a tar (plain, gz, bz2, xz) and return where they are, in its order.

    Each file appears whole or not at all; one that is there with the size the archive tells is kept. Folders are made
    as needed, links and special files in a tar are passed over, access rights and times are not restored.

    Args:
        folder: names in the archive are relative to it; made if missing.
        wanted: told the name of each file as the archive has it (``"VOCdevkit/VOC2012/JPEGImages/2007_000027.jpg"``).
        title: what the progress bar says; None says the archive's name.

    Raises:
        UserError: the archive is missing, cut short, damaged or of another kind, a wanted name lies outside the folder
            (nothing of that file is written), the disk is full or the folder cannot be written. Files that were whole
            before that stay and the same call goes on after them; but of a compressed tar, whose one checksum comes
            last, what this call wrote is removed.
    """
    title = f"unpack {title or archive.name}"
    try:
        with archive.open("rb") as file:
            members = _zip_members if file.read(2) == b"PK" else _tar_members
            file.seek(0)
            return list(members(file, archive, folder, wanted, title))
    except FileNotFoundError:
        raise UserError(f"{archive}: this archive does not exist; put it there or name another file") from None
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
                _write(lambda member=member: content.open(member), member.file_size, target, archive)
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
                    if _write(lambda member=member: content.extractfile(member), member.size, target, archive):
                        fresh.append(target)
                    yield target
                bar.update(file.tell() - bar.n)
            if plain:  # tarfile takes a missing or damaged header for the end, which is a block of zeros
                file.seek(content.offset)
                if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise _damaged(archive, f"no file and no end at byte {content.offset}")
            while not plain and content.fileobj.read(CHUNK):
                pass  # to the checksum, which the last bytes hold
        except (*DAMAGE, UserError):
            for target in () if plain else fresh:
                target.unlink(missing_ok=True)
            raise


def _inside(name: str, folder: Path, archive: Path) -> Path:
    """Return where a member belongs; a name that leads out of the folder is refused."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or PureWindowsPath(name).drive or not path.parts:
        raise UserError(f"{archive}: its file '{name}' would lie outside {folder}; this is not the official archive")
    return folder.joinpath(*path.parts)


def _write(open_member: Callable[[], IO[bytes]], size: int, target: Path, archive: Path) -> bool:
    """Write a member unless a file of its size is there; return whether it was written."""
    if target.is_file() and target.stat().st_size == size:
        return False

    def copy(path: Path) -> None:
        with path.open("wb") as out:
            out.writelines(_content(open_member, archive))

    write_atomically(target, copy)
    return True


def _content(open_member: Callable[[], IO[bytes]], archive: Path) -> Iterator[bytes]:
    """Yield a member's bytes; whatever goes wrong in reading them is the archive's fault, not the target's."""
    try:
        with open_member() as member:
            while chunk := member.read(CHUNK):
                yield chunk
    except DAMAGE as error:
        raise _damaged(archive, error) from None


def _damaged(archive: Path, error: Exception | str) -> UserError:
    return UserError(f"{archive}: this archive is cut short or damaged ({error}); remove it and download it again")
