"""Digests and states of files: what a file is, and whether it has changed."""

import hashlib
from pathlib import Path

from util.files.errors import UserError
from util.files.reading import read_bytes

DIGEST_BYTES = 16  # of a file's content
PHOTO_DIGITS = 16  # of its digest in hexadecimal, that tell photos apart


def state_of(path: Path) -> tuple[int, ...]:
    """Return numbers that change when a file changes (bytes, times, inode), which an int64 array holds.

    Equal ones spare reading the file again; what it is, its digest decides. UserError: there is no such file.
    """
    try:
        status = path.stat()
    except OSError:
        raise UserError(
            f"{path}: this file does not exist",
            fix="write its name as the file has it; paths of a list begin below data.root",
        ) from None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino % 2**63


def content_digest(path: Path) -> bytes:
    """Return the digest, of ``DIGEST_BYTES``, of a file's content; UserError if it cannot be read."""
    content = read_bytes(path, "this file", "restore it or leave it out")
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
