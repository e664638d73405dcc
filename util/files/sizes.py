"""How large photos, masks, outlines, archives and nested data may be: asked before memory is taken for them."""

import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

GIB = 2**30
MAX_PIXELS = 2**26  # 67 million, of a photo or a mask; a photo takes 32-bit numbers while it is resized
MAX_COORDINATE = 2**17  # of outlines, in pixels
MAX_LENGTH = 2**21  # of an outline, in pixels: filling it takes a hundred bytes for each
FIX = "make it smaller"
TIMES = 4  # the size of a file that its content may have: some parts share their memory
ROOM = 2**27  # bytes, beside that


def check_size(height: int, width: int) -> None:
    """Refuse (ValueError) a size of no pixels, or of more than ``MAX_PIXELS``."""
    if height < 1 or width < 1:
        raise ValueError(f"a size of {width} x {height} has no pixels")
    if height * width > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels, the limit is {MAX_PIXELS}; {FIX}")


def check_outlines(outlines: Sequence[np.ndarray], height: int, width: int) -> None:
    """Refuse (ValueError) the outlines, each (2 x points,) of x and y, on a photo that take too long to fill.

    One has at most the length ``MAX_LENGTH``, all together that and a pixel for each of the photo.
    """
    check_size(height, width)
    if not all((np.abs(outline) < MAX_COORDINATE).all() for outline in outlines):  # nor does NaN compare
        raise ValueError("its outlines reach far beyond the photo")
    lengths = list(map(_length, outlines))
    if max(lengths, default=0) > MAX_LENGTH or sum(lengths) > MAX_LENGTH + height * width:
        raise ValueError(f"its outlines are longer than {MAX_LENGTH} pixels; simplify them")


def _length(outline: np.ndarray) -> float:
    """Return the length of an outline (2 x points,): the longer of both steps, from each point to the next."""
    points = outline[: len(outline) // 2 * 2].reshape(-1, 2)
    steps = np.diff(points, axis=0, append=points[:1])
    return float(np.abs(steps).max(1).sum())


def largest_content(path: Path) -> int:
    """Return the bytes of memory that the content of a file may take."""
    return TIMES * path.stat().st_size + ROOM


def check_unpacked(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse (ValueError) a zip archive that is larger unpacked than ``largest_content`` of its file."""
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > largest_content(path):
        raise ValueError(f"it has {unpacked} bytes unpacked, the file {path.stat().st_size}")


def check_nested(value: Any, parts_of: Callable[[Any], tuple[int, Iterable[Any]]], limit: int) -> None:
    """Refuse (ValueError) a value that contains itself, or more than ``limit`` with each alias written out.

    ``parts_of`` gives a value's own size and the values in it. RecursionError: it is nested too deeply.
    """
    sizes: dict[int, int | None] = {}  # by the identity of a value; None while its parts are counted

    def size_of(part: Any) -> int:
        if id(part) not in sizes:
            sizes[id(part)] = None
            own, parts = parts_of(part)
            sizes[id(part)] = own + sum(map(size_of, parts))
        size = sizes[id(part)]
        if size is None:
            raise ValueError("a value contains itself")
        if size > limit:
            raise ValueError(f"its aliases stand for more than {limit} values; write them out")
        return size

    size_of(value)
