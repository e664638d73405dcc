"""The pictures of an index decoded, in a file mapped into memory: made once, shared by all processes and runs.

Reading a photo of VOC's size from it costs nothing, decoding it and its mask most of a training view. A file takes four
bytes a pixel, lies beside the index, and is made anew when a photo or a mask changes; the one before is then removed.
"""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import accumulate
from pathlib import Path

import cv2
import numpy as np

from util.config.settings import DataSettings
from util.data.images import PICTURE_CHANNELS, read_picture
from util.data.index import Index
from util.errors import WriteError
from util.files import fingerprint, write_atomically
from util.parallel import parallel_map

log = logging.getLogger("symnet")
FORMAT = 1  # raise when what is stored changes
SUFFIX = ".pictures"
GIB = 2**30
MIN_FREE = 2  # times the file's size that must be free on its disk before it is written


@dataclass(frozen=True)
class Decoded:
    """Pictures by row; opened where they are first asked for, so that it can be sent to another process.

    Attributes:
        path: one picture after the other, (H, W, 4) uint8.
        starts: where each begins, in bytes, and where the last one ends.
        sizes: (images, 2) height and width.
    """

    path: Path
    starts: tuple[int, ...]
    sizes: np.ndarray

    @classmethod
    def of(cls, path: Path, sizes: np.ndarray) -> Decoded:
        """Return the pictures of these sizes in a file that may not exist yet."""
        lengths = (sizes.prod(1) * PICTURE_CHANNELS).tolist()
        return cls(path, tuple(accumulate(lengths, initial=0)), sizes)

    def __getitem__(self, row: int) -> np.ndarray:
        """Return a picture, (H, W, 4) uint8, not to be written to."""
        return self._content[self.starts[row] : self.starts[row + 1]].reshape(*self.sizes[row], PICTURE_CHANNELS)

    @cached_property
    def _content(self) -> np.ndarray:
        return np.memmap(self.path, np.uint8, mode="r").view(np.ndarray)

    def __getstate__(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k != "_content"}

    @property
    def whole(self) -> bool:
        """Whether the file is there."""
        return self.path.is_file() and self.path.stat().st_size == self.starts[-1]


def with_pictures(index: Index, data: DataSettings, list_file: str, progress: bool = True) -> Index:
    """Return the index with its pictures decoded, if they fit into ``data.decoded_gib``; else as it was.

    A disk without room for them is no error: the log says so, and images are decoded as they are needed.

    Raises:
        UserError: a photo or mask is missing or damaged, or they do not fit together.
    """
    wanted = int(index.sizes.prod(1).sum()) * PICTURE_CHANNELS
    allowed = data.decoded_gib * GIB
    say = log.info if progress else log.debug
    if wanted > allowed:
        if allowed:
            say(
                "decoding each photo anew: all would take %.1f GiB, data.decoded_gib is %g", wanted / GIB, allowed / GIB
            )
        return index
    lacking = "this image does not exist; restore it or take it out of the list"
    made_from = fingerprint(index.images, FORMAT, index.fingerprint, cv2.__version__, lacking=lacking)
    stem = f"{data.name}-{Path(list_file).stem}"
    path = Path(data.cache) / f"{stem}-{made_from[:16]}{SUFFIX}"
    decoded = Decoded.of(path, index.sizes)
    if not decoded.whole:
        try:
            _make(decoded, index, f"decode {data.name}", progress)
        except WriteError as error:
            say("decoding each photo anew: %s", error)
            return index
        for old in path.parent.glob(f"{stem}-*{SUFFIX}"):
            if old != path:
                old.unlink(missing_ok=True)
        say("decoded photos: %s, %.1f GiB (data.decoded_gib)", path, wanted / GIB)
    return replace(index, decoded=decoded)


def _make(decoded: Decoded, index: Index, title: str, progress: bool) -> None:
    """Decode every picture into its place.

    Raises:
        WriteError: no room, or the folder cannot be written.
    """
    length, folder = decoded.starts[-1], decoded.path.parent

    def write(file: Path) -> None:
        if shutil.disk_usage(folder).free < MIN_FREE * length:
            raise WriteError(f"{folder}: less than {MIN_FREE * length / GIB:.1f} GiB are free")
        with file.open("wb") as out:
            out.truncate(length)
        jobs = list(zip(index.images, index.masks, decoded.starts))
        for _ in parallel_map(partial(_put, file=file), jobs, title, progress=progress):
            pass

    write_atomically(decoded.path, write)


def _put(job: tuple[Path, Path, int], file: Path) -> None:
    """Decode an image and its mask and write them to their place in a file."""
    image, mask, start = job
    with file.open("r+b") as out:
        out.seek(start, os.SEEK_SET)
        out.write(read_picture(image, mask).data)
