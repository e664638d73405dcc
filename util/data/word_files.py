"""Read a few words from a large file of word vectors: word2vec, GloVe, fastText, gensim's own, plain or compressed.

gensim reads every vector (``gensim_files.py``). Of word2vec's binary form it reads the first ``COMMON`` rows, then, for
a rare word, all of them; it keeps the wanted rows, so that memory does not grow with the file. This module does what
gensim does not:

- It tells the form of a file, which gensim's caller must know.
- It picks the lines of the wanted words from a text file, header or not, in one pass. gensim converts every number of
  every line: 0.4 ms a line of 300 numbers beside 5 us, minutes for GloVe; and it stops at the words with spaces that
  GloVe has.
- It refuses a file that was cut short or has a hole, of which gensim's reader would gather the rest in memory.
"""

from __future__ import annotations

import bz2
import difflib
import gzip
import itertools
import lzma
import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from tqdm import tqdm

from util.errors import UserError
from util.read_files import irregular

COMMON = 500_000  # rows; files are sorted by frequency
HEAD = 1 << 18  # bytes that decide the format; a text row of 10 000 numbers fits
MAX_GAP = 1 << 20  # bytes of a binary file without a space; a row of 10 000 numbers has 40 000 bytes
WIDTHS = range(2, 10_001)
HEADER = re.compile(rb"[ \t]*(\d{1,12})[ \t]+(\d{1,9})[ \t]*\r?\n")
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")  # bytes that never occur in text
COMPRESSED: dict[bytes, Callable[[IO[bytes]], Any]] = {  # first bytes -> opens the decompressed stream
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError)
FASTTEXT_START, PICKLE_START = b"\xba\x16\x4f\x2f", b"\x80"
OWN_SUFFIXES = (".kv", ".model", ".wordvectors")
FOREIGN = {  # first bytes -> kind of file and remedy
    b"PK\x03\x04": "a zip archive: unpack it and name the file inside",
    PICKLE_START: "a pickle: gensim's own files end in .kv or .model; import finished rows with --import",
}
PREFIX = 3  # first characters that a suggested word shares with a requested one
MAX_SIMILAR_KEPT, MAX_SIMILAR_SHOWN = 5000, 3
SIMILARITY = 0.7  # least ratio of difflib for a suggested word


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
    prefixes: set[str] = field(default_factory=set)  # first letters of the requested words

    def see(self, word: str) -> None:
        """Keep a word that was not requested if it is similar to one that was."""
        if word[:PREFIX].lower() in self.prefixes and len(self.similar) < MAX_SIMILAR_KEPT:
            self.similar.append(word)

    def close_to(self, word: str) -> list[str]:
        """Return up to three words of the file with a spelling similar to ``word``."""
        return difflib.get_close_matches(word, self.similar, MAX_SIMILAR_SHOWN, SIMILARITY)


def read_words(path: Path, wanted: Iterable[str], enough: Iterable[str]) -> Words:
    """Return the wanted words that a file has; if a word occurs twice, its first row counts, as in gensim.

    Args:
        wanted: words to look for.
        enough: reading may stop when all of these are found; the rest of the file is not read.

    Raises:
        UserError: the file is missing, of another format, damaged, or cut short before all of ``enough`` were found; or
            a wanted vector is zero or not finite.
    """
    if not path.exists():
        raise UserError(f"{path}: this file of word vectors does not exist; put it there or name another")
    if reason := irregular(path):
        raise UserError(f"{path}: cannot be read as word vectors ({reason}); put the file there or name another")
    names, needed = set(wanted), set(enough)
    try:
        with path.open("rb") as raw:
            head = raw.read(HEAD)
        if head.startswith(FASTTEXT_START) or (head.startswith(PICKLE_START) and path.suffix in OWN_SUFFIXES):
            return _of_table(path, head.startswith(FASTTEXT_START), names)
        with _Stream(path) as stream:
            form = _form(stream.stream.read(HEAD), path)
        if not form.binary:
            return _of_text(path, form, names, needed)
        words = _of_binary(path, form, names, COMMON)
        return words if needed <= words.vectors.keys() else _of_binary(path, form, names, None)
    except DAMAGE as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path}: cannot be read, damaged or cut short ({reason}); download it again") from None


class _Stream:
    """The decompressed bytes of a file, with a progress bar; the end of the block closes both."""

    def __init__(self, path: Path):
        self.raw = path.open("rb")
        unpack = next((u for magic, u in COMPRESSED.items() if self.raw.peek(8).startswith(magic)), None)
        self.stream: IO[bytes] = unpack(self.raw) if unpack else self.raw
        self.bar = tqdm(total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True, leave=False, delay=1)
        self.gap = 0

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        self.raw.close()

    def read(self, size: int) -> bytes:
        """Return the next bytes of a binary file.

        Raises:
            EOFError: no word can be among the last megabyte.
        """
        content = self.stream.read(size)
        self.gap = 0 if b" " in content else self.gap + len(content)
        if self.gap > MAX_GAP:
            raise EOFError("a hole without words")
        self.bar.update(self.raw.tell() - self.bar.n)
        return content

    def readline(self) -> bytes:
        """Return the next line, as short as a file's first line must be."""
        return self.stream.readline(HEAD)

    def lines(self) -> Iterable[bytes]:
        """Yield the lines of a text file."""
        for number, line in enumerate(self.stream):
            if not number % 4096:
                self.bar.update(self.raw.tell() - self.bar.n)
            yield line


def _of_table(path: Path, fasttext: bool, wanted: set[str]) -> Words:
    """Return the wanted words of a file that gensim reads whole or maps."""
    from util.data.gensim_files import read_whole

    rows, table = read_whole(path, fasttext)
    words = _none_of(wanted)
    for word, row in rows.items():
        if word in wanted:
            words.vectors[word] = _checked(np.array(table[row], np.float32), word, table.shape[1], path)
        else:
            words.see(word)
    return words


def _of_binary(path: Path, form: Form, wanted: set[str], limit: int | None) -> Words:
    """Return the wanted words among the first ``limit`` rows of word2vec's binary form."""
    from util.data.gensim_files import read_binary

    words = _none_of(wanted)
    rows = read_binary(_Stream(path), wanted, limit, words.see)
    words.vectors.update((name, _checked(row, name, form.width, path)) for name, row in rows.items())
    return words


def _of_text(path: Path, form: Form, wanted: set[str], enough: set[str]) -> Words:
    """Return the wanted words of a text file; a line whose word has spaces in it is passed over."""
    from util.data.gensim_files import read_row

    words, names = _none_of(wanted), {name.encode(): name for name in wanted}
    number, numbers = 0, None
    with _Stream(path) as stream:
        stream.stream.seek(form.start)
        for line in itertools.islice(stream.lines(), form.rows):
            number += 1
            word, _, numbers = line.partition(b" ")
            if word not in names:
                words.see(word.decode(errors="replace"))
            elif len(row := numbers.split()) <= form.width:
                name = names.pop(word)
                words.vectors[name] = _checked(read_row(row), name, form.width, path)
                if enough <= words.vectors.keys():
                    return words
    if number < (form.rows or 0) or (numbers is not None and len(numbers.split()) < form.width):
        of = "" if form.rows is None else f" of {form.rows}"
        raise UserError(f"{path}: cut short, it ends after {number}{of} words; download it again")
    return words


def _none_of(wanted: set[str]) -> Words:
    return Words(prefixes={name[:PREFIX].lower() for name in wanted})


def _checked(row: np.ndarray | None, name: str, width: int, path: Path) -> np.ndarray:
    """Return the row of a word.

    Raises:
        UserError: it has another width, or is zero or not finite.
    """
    if row is None or len(row) != width or not np.isfinite(row).all() or not row.any():
        raise UserError(
            f"{path}: the row of '{name}' must be {width} finite numbers that are not all 0; use another file"
        )
    return row


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
        text = len(fields) > width and _numeric(fields[-width:])
        if width in WIDTHS and (text or CONTROL.search(head, start)):
            return Form(not text, width, rows, start)
    elif len(fields) - 1 in WIDTHS and _numeric(fields[1:]):
        return Form(False, len(fields) - 1, None, start)
    raise UserError(
        f"{path}: not word vectors: expected word2vec's binary or text form, GloVe's text or fastText's .vec, "
        "plain or as .gz, .bz2 or .xz"
    )


def _numeric(fields: list[bytes]) -> bool:
    try:
        return bool([float(f) for f in fields])
    except ValueError:
        return False
