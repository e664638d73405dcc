"""Reading of files with errors of one line, atomic writing of files and folders, their names, states and digests."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from util.files.errors import UserError, WriteError, note

REPOSITORY = Path(__file__).resolve().parents[2]
SYSTEM_FILES = ("thumbs.db", "desktop.ini", "__macosx", "@eadir")  # in lower case: what systems put beside files
DIGEST_BYTES = 16  # of a file's content
PHOTO_DIGITS = 16  # of its digest in hexadecimal, that tell photos apart
TEMPORARY = ".tmp."  # in the name of a file that is being written, after a dot and the number of its process
LONG_NAME = 200  # bytes; file systems have room for 255
STAND_INS = {  # beginnings of files that stand in place of others -> what they are, and the fix
    rb"version https://git-lfs": "a pointer of Git LFS, not the file itself; fetch it: git lfs pull",
    rb"(?i)\s*(<\?xml[^>]*>\s*)?<(!doctype html|html|error)\b": "a web page, not the file itself; download it again",
}


def project_path(name: str | Path) -> Path:
    """Return the path of a file of the project: as written, or in the project's folder if it is only there."""
    path = Path(name)
    in_project = REPOSITORY / path
    return in_project if in_project.exists() and not path.exists() else path


def stand_in(path: Path, others: Mapping[bytes, str] = STAND_INS) -> str:
    """Say what a file is that stands in place of another, by its beginning as in ``others``, and the fix; else ''."""
    try:
        with path.open("rb") as file:
            return _stand_in(file.read(1024), others)
    except OSError:
        return ""


def _stand_in(content: bytes, others: Mapping[bytes, str] = STAND_INS) -> str:
    start = content[:1024].removeprefix(b"\xef\xbb\xbf")
    return next((what for beginning, what in others.items() if re.match(beginning, start)), "")


def read_bytes(path: Path, what: str, fix: str, parse: Callable[[bytes], Any] = bytes) -> Any:
    """Return the content of a file as ``parse`` reads it.

    Args:
        what: the word for the file in messages, such as ``this list``.
        fix: the end of messages: what the user can do.

    UserError: the file is missing, a folder, cannot be read, stands in place of another, or ``parse`` raises a
    ValueError.
    """
    try:
        content = path.read_bytes()
        if other := _stand_in(content):
            raise UserError(f"{path}: is {other}")
        return parse(content)
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None)
        if not reason:
            reason = "not in UTF-8" if isinstance(error, UnicodeDecodeError) else f"cut short or damaged: {error}"
        raise UserError(f"{path}: cannot read {what} ({reason}); {fix}") from None


def read_text(path: Path, what: str, fix: str) -> str:
    """Return the text of a file in UTF-8, without a byte-order mark; raises as ``read_bytes`` does."""
    return read_bytes(path, what, fix, lambda content: content.decode("utf-8-sig"))


def read_json(path: Path, what: str, fix: str) -> Any:
    """Return the content of a JSON file; raises as ``read_bytes`` does."""
    return read_bytes(path, what, fix, json.loads)


def kept_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file that this project keeps for itself; empty if it is missing or damaged."""
    try:
        content = read_json(path, "", "")
    except UserError:
        return {}
    return content if isinstance(content, dict) else {}


def write_atomically(
    path: Path, write: Callable[[Path], Any] | str | bytes, durable: bool = False, previous: Path | None = None
) -> None:
    """Write a file under another name, then rename it: an interruption leaves the old file or none.

    A device or a pipe is written through.

    Args:
        write: the content, or a function that writes the file it is given (a name with the same suffix).
        durable: whether the content is on the disk before the file is renamed, so that a power cut loses neither.
        previous: becomes the old file.

    WriteError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{os.getpid()}{TEMPORARY}{_short(path)}")
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # a device or a pipe, which nothing may replace
            _put(path, write)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        _put(temporary, write)
        if durable:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise WriteError(f"{path}: cannot be written ({reason}); free some space or name another folder") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _put(path: Path, content: Callable[[Path], Any] | str | bytes) -> None:
    """Write what ``write_atomically`` is given."""
    if callable(content):
        content(path)
    else:
        path.write_bytes(writable(content).encode() if isinstance(content, str) else content)


def _short(path: Path) -> str:
    """Return a file's name, or for a long one another of its own with its suffix."""
    name = os.fsencode(path.name)
    return path.name if len(name) <= LONG_NAME else hashlib.sha256(name).hexdigest() + path.suffix


def is_running(process: str) -> bool:
    """Return whether a process of this machine has a number, as names of files that are being written begin with."""
    try:
        os.kill(int(process), 0)  # which ends nothing
    except PermissionError:  # of another user
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return True


def lock(path: Path, refusal: str) -> TextIO:
    """Return a locked file; the system releases the lock when the file is closed or this process ends.

    UserError, with the text ``refusal``: another process holds it, on this machine or on another.
    """
    file = open(path, "a")  # noqa: SIM115  closed by the caller
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.close()
        raise UserError(refusal) from None
    except OSError:
        note(f"{path}: this file system has no locks; start no command twice")
    return file


def writable(text: str) -> str:
    """Return a text with ``\\udcNN`` for each byte of a file name that is not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def file_word(name: str) -> str:
    """Return what stands for the name of a class in the names of files."""
    return re.sub(r"[^\w-]+", "_", name)


def own_name(text: str) -> str:
    """Return the name of a file that another file in its folder states; ValueError: it leads elsewhere."""
    if text in ("", ".", "..") or not {"/", "\\", "\0"}.isdisjoint(text):
        raise ValueError(f"'{text}' is no name of a file in its folder")
    return text


def is_hidden(name: str) -> bool:
    """Return whether a file or a folder of a name is hidden, or one of ``SYSTEM_FILES``."""
    return name.lower().startswith((".", *SYSTEM_FILES))


def visible(paths: Iterable[Path], folder: Path) -> list[Path]:
    """Return the paths below a folder in order, but hidden ones and those in hidden folders."""
    return sorted(path for path in paths if not any(map(is_hidden, path.relative_to(folder).parts)))


def paths_below(folder: Path, pattern: str = "*") -> list[Path]:
    """Return what ``pattern`` matches of the visible files and folders below a folder, in order.

    Links to folders are followed, each folder is found once. Links that lead nowhere are among the files.
    """
    paths = list[Path]()
    entered = set[tuple[int, int]]()  # device and inode of folders
    if not folder.is_dir():
        return []
    for name, folders, files in os.walk(folder, onerror=note, followlinks=True):
        place = Path(name)
        status = place.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in entered:
            folders.clear()
            continue
        entered.add(identity)
        paths.append(place)
        paths += [place / file for file in files if not is_hidden(file)]
        seen = [part for part in folders if not is_hidden(part)]
        folders[:] = sorted(seen, key=lambda part: ((place / part).is_symlink(), part))  # links last
    return sorted(path for path in paths[1:] if path.match(pattern))


def files_below(folder: Path, suffix: str = "") -> list[Path]:
    """Return the files of ``paths_below`` whose names end with a suffix."""
    return [path for path in paths_below(folder, f"*{suffix}") if not path.is_dir()]


def leads_nowhere(path: Path) -> bool:
    """Return whether a path is a link to a file or folder that does not exist."""
    return path.is_symlink() and not path.exists()


def state_of(path: Path) -> tuple[int, ...]:
    """Return numbers that change when a file changes (bytes, times, inode), which an int64 array holds.

    Equal ones spare reading the file again; what it is, its digest decides. UserError: there is no such file.
    """
    try:
        status = path.stat()
    except OSError:
        fix = "write its name as the file has it; paths of a list begin below data.root"
        raise UserError(f"{path}: this file does not exist", fix=fix) from None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino % 2**63


def content_digest(path: Path) -> bytes:
    """Return the digest, of ``DIGEST_BYTES``, of a file's content; UserError if it cannot be read."""
    content = read_bytes(path, "this file", "restore it or leave it out")
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
