"""Read a few words from a large file of word vectors: word2vec (binary, text), GloVe and fastText, plain or compressed.

The file is read as a stream and only the requested words are kept, so memory does not grow with the file. Formats of
gensim and of fastText's models are read by gensim (``gensim_files.py``).
"""

from __future__ import annotations

import bz2
import difflib
import gzip
import itertools
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from tqdm import tqdm

from util.data.gensim_files import is_gensims, read_by_gensim
from util.errors import UserError

CHUNK = 1 << 20
HEAD = 1 << 18  # bytes that decide the format; a text row of 10 000 numbers fits
MAX_WORD = 1 << 12  # bytes of a word
WIDTHS = range(2, 10_001)
HEADER = re.compile(rb"[ \t]*(\d{1,12})[ \t]+(\d{1,9})[ \t]*\r?\n")
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")  # bytes that never occur in text
COMPRESSED: dict[bytes, Callable[[IO[bytes]], Any]] = {  # first bytes -> opens the decompressed stream
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError)
FOREIGN = {  # first bytes -> kind of file and remedy
    b"PK\x03\x04": "a zip archive: unpack it and name the file inside",
    b"\x80": "a pickle: gensim's own files end in .kv or .model; import finished rows with --import",
}
PREFIX = 3  # first characters that a suggested word shares with a requested one
MAX_SIMILAR_KEPT, MAX_SIMILAR_SHOWN = 5000, 3
SIMILARITY = 0.7  # least ratio of difflib for a suggested word
PROGRESS_ROWS = 1 << 12  # rows between two updates of the progress bar


@dataclass
class Form:
    """Layout of a file of word vectors."""

    binary: bool
    width: int  # T
    rows: int | None  # as stated in the header; None without a header
    start: int  # bytes of the header


@dataclass
class Words:
    """Vectors by word, each (T,) float32, and words of the file that are similar to the requested ones."""

    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    similar: list[str] = field(default_factory=list)

    def close_to(self, word: str) -> list[str]:
        """Return up to three words of the file with a spelling similar to ``word``."""
        return difflib.get_close_matches(word, self.similar, MAX_SIMILAR_SHOWN, SIMILARITY)


def read_words(path: Path, wanted: Iterable[str], enough: Iterable[str]) -> Words:
    """Return the wanted words that a file has; if a word occurs twice, its first row counts, as in gensim.

    Args:
        wanted: words to look for.
        enough: reading stops as soon as all of these are found; the rest of the file is not read.

    Raises:
        UserError: the file is missing, of another format, damaged, or cut short before all of ``enough`` were found; or
            a wanted vector is zero or not finite.
    """
    try:
        with path.open("rb") as raw:
            head = raw.read(HEAD)
            raw.seek(0)
            if is_gensims(path, head):
                return _chosen(*read_by_gensim(path, head), set(wanted), path)
            unpack = next((u for magic, u in COMPRESSED.items() if head.startswith(magic)), None)
            stream: IO[bytes] = unpack(raw) if unpack else raw
            form = _form(stream.read(HEAD), path)
            stream.seek(form.start)
            with tqdm(total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True, leave=False) as bar:
                rows = _binary_rows(stream, form, path) if form.binary else _text_rows(stream, form, path)
                return _select(rows, form, set(wanted), set(enough), path, lambda: bar.update(raw.tell() - bar.n))
    except FileNotFoundError:
        raise UserError(f"{path}: this file of word vectors does not exist; put it there or name another") from None
    except DAMAGE as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read, damaged or cut short ({reason}); download it again") from None


def _chosen(rows: dict[str, int], table: np.ndarray, wanted: set[str], path: Path) -> Words:
    """Return the wanted words of a table that is in memory, and similar words."""
    prefixes = {name[:PREFIX].lower() for name in wanted}
    near = (word for word in rows if word not in wanted and word[:PREFIX].lower() in prefixes)
    out = Words({}, list(itertools.islice(near, MAX_SIMILAR_KEPT)))
    for name in wanted & rows.keys():
        out.vectors[name] = _checked(np.array(table[rows[name]]), name, table.shape[1], path)
    return out


def _checked(vector: np.ndarray | None, name: str, width: int, path: Path) -> np.ndarray:
    """Return a word's vector.

    Raises:
        UserError: it has another width, or is zero or not finite.
    """
    if vector is None or len(vector) != width or not np.isfinite(vector).all() or not vector.any():
        raise UserError(
            f"{path}: the row of '{name}' must be {width} finite numbers that are not all 0; use another file"
        )
    return vector


def _form(head: bytes, path: Path) -> Form:
    """Return the layout by the first bytes (uncompressed): with or without a header, text or binary."""
    for magic, what in FOREIGN.items():
        if head.startswith(magic):
            raise UserError(f"{path}: {what}")
    header = HEADER.match(head)
    start = header.end() if header else 0
    fields = head[start:].partition(b"\n")[0].split()
    if header:
        rows, width = int(header[1]), int(header[2])
        text = len(fields) > width and _numbers(fields[-width:]) is not None
        if width in WIDTHS and (text or CONTROL.search(head, start)):
            return Form(not text, width, rows, start)
    elif len(fields) - 1 in WIDTHS and _numbers(fields[1:]) is not None:
        return Form(False, len(fields) - 1, None, start)
    raise UserError(
        f"{path}: not word vectors: expected word2vec's binary or text form, GloVe's text or fastText's .vec, "
        "plain or as .gz, .bz2 or .xz"
    )


def _numbers(fields: list[bytes]) -> np.ndarray | None:
    try:
        return np.array([float(f) for f in fields], np.float32)
    except ValueError:
        return None


def _binary_rows(stream: IO[bytes], form: Form, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield each word with the bytes of its vector; a binary file always has a header."""
    assert form.rows is not None
    size = form.width * np.dtype(np.float32).itemsize
    buffer, start = b"", 0
    for number in range(form.rows):
        space = buffer.find(b" ", start)
        while space < 0 or space + 1 + size > len(buffer):
            if space < 0 and len(buffer) - start > MAX_WORD:
                raise UserError(f"{path}: damaged after {number} of {form.rows} words; download it again")
            more = stream.read(CHUNK)
            if not more:
                raise _cut_short(path, number, form)
            buffer, start = buffer[start:] + more, 0
            space = buffer.find(b" ")
        yield buffer[start:space].lstrip(b"\n"), buffer[space + 1 : space + 1 + size]
        start = space + 1 + size


def _text_rows(stream: IO[bytes], form: Form, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield each word with the rest of its line; a word with spaces yields its first part and a longer rest."""
    number, rest = 0, None
    for line in itertools.islice(stream, form.rows):
        word, _, rest = line.partition(b" ")
        yield word, rest
        number += 1
    if number < (form.rows or 0) or (rest is not None and len(rest.split()) < form.width):
        raise _cut_short(path, number, form)


def _cut_short(path: Path, number: int, form: Form) -> UserError:
    of = "" if form.rows is None else f" of {form.rows}"
    return UserError(f"{path}: cut short, it ends after {number}{of} words; download it again")


def _select(
    rows: Iterator[tuple[bytes, bytes]],
    form: Form,
    wanted: set[str],
    enough: set[str],
    path: Path,
    tick: Callable[[], object],
) -> Words:
    """Return the wanted words among the rows, and similar words; stop when all of ``enough`` are found."""
    out, names = Words(), {word.encode(): word for word in wanted}
    prefixes = {name[:PREFIX].lower() for name in names}
    for number, (word, row) in enumerate(rows):
        if not number % PROGRESS_ROWS:
            tick()
        if word not in names:
            if word[:PREFIX].lower() in prefixes and len(out.similar) < MAX_SIMILAR_KEPT:
                out.similar.append(word.decode(errors="replace"))
            continue
        vector = np.frombuffer(row, "<f4") if form.binary else _numbers(row.split())
        if not form.binary and len(row.split()) > form.width:
            continue  # the first part of a word with spaces in it
        name = names.pop(word)
        out.vectors[name] = _checked(vector, name, form.width, path)
        enough.discard(name)
        if not enough:
            break
    return out
