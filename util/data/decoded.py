"""A cache of decoded images and masks in a memory-mapped file that all processes and runs share.

Decoding a photo of VOC's size and its mask takes most of the time of a training view; reading both from this file takes
almost none. The file holds four bytes per pixel and lies beside the index. It is rebuilt, and the old one removed, when
a photo or a mask changes.
"""

import hashlib
import shutil
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from util.config.settings import DataSettings
from util.data.lists.index import Index
from util.files import TEMPORARY, is_running, write_atomically
from util.files.errors import WriteError, log
from util.files.mask_images import STACKED_CHANNELS, read_stacked
from util.files.parallel import parallel_map
from util.files.sizes import GIB

FORMAT = 4  # raise when the stored content changes
SUFFIX = ".pictures"


class MappedImages:
    """Stacked images by row, of ``sizes`` (images, 2); processes get the path and open the file when needed."""

    def __init__(self, path: Path, sizes: np.ndarray):
        self.path = path
        self.sizes = sizes
        ends = np.cumsum(sizes.prod(1) * STACKED_CHANNELS)
        self.starts = [0, *ends.tolist()]  # of the images, then the file's length in bytes

    def __getitem__(self, row: int) -> np.ndarray:
        """Return a stacked image, (H, W, 4) uint8, read-only."""
        content = self._content[self.starts[row] : self.starts[row + 1]]
        return content.reshape(*self.sizes[row], STACKED_CHANNELS)

    @cached_property
    def _content(self) -> np.ndarray:
        return np.memmap(self.path, np.uint8, mode="r").view(np.ndarray)

    def __reduce__(self) -> tuple:
        return MappedImages, (self.path, self.sizes)


def with_decoded_images(index: Index, data: DataSettings, progress: bool = True) -> Index:
    """Return the training list's index with a cache of its decoded images, or without if that exceeds ``decoded_gib``.

    A full disk is no error: the log says so, and images are decoded at each access. ``progress``: whether this process
    shows it and logs at level INFO. UserError: a photo or mask is missing or damaged, or their sizes differ.
    """
    report = log.info if progress else log.debug
    gib = int(index.sizes.prod(1).sum()) * STACKED_CHANNELS / GIB
    if gib > data.decoded_gib:
        if data.decoded_gib:
            report("no cache of decoded images: %.1f GiB, data.decoded_gib is %g", gib, data.decoded_gib)
        return index
    list_digest = hashlib.sha256(f"{Path(data.root).resolve()} {data.train_list}".encode()).hexdigest()
    stem = f"{data.name}-train-{list_digest[:8]}-"
    content = f"{FORMAT} {index.fingerprint} {cv2.__version__} {index.joined}"
    content_digest = hashlib.sha256(content.encode()).hexdigest()
    path = Path(data.cache) / f"{stem}{content_digest[:16]}{SUFFIX}"
    decoded = MappedImages(path, index.sizes)
    if not path.is_file() or path.stat().st_size != decoded.starts[-1]:
        _remove_others(path, stem)
        try:
            write_atomically(path, partial(_decode_all, decoded, index, progress), durable=True)
        except WriteError as error:
            report("no cache of decoded images: %s", error)
            return index
        report("cache of decoded images: %s, %.1f GiB (data.decoded_gib)", path, gib)
    return replace(index, decoded=decoded)


def _remove_others(path: Path, stem: str) -> None:
    """Remove the caches of earlier files of the same list, and what killed processes left of such caches."""
    for other in path.parent.glob(f"*{SUFFIX}"):
        process, _, name = other.name.removeprefix(".").rpartition(TEMPORARY)
        if name.startswith(stem) and other != path and not is_running(process):
            other.unlink(missing_ok=True)


def _decode_all(decoded: MappedImages, index: Index, progress: bool, file: Path) -> None:
    length = decoded.starts[-1]
    if shutil.disk_usage(file.parent).free < 2 * length:
        raise WriteError(f"{file.parent}: less than {2 * length / GIB:.1f} GiB are free")
    with file.open("wb") as out:
        out.truncate(length)
    jobs = [(index.files(row), start) for row, start in enumerate(decoded.starts[:-1])]
    list(parallel_map(partial(_decode, file=file), jobs, "decode photos", progress=progress))


def _decode(job: tuple[tuple[Any, ...], int], file: Path) -> None:
    """Decode an image and its mask, and write them to a file at an offset."""
    files, start = job
    stacked = read_stacked(*files)
    with file.open("r+b") as out:
        out.seek(start)
        out.write(stacked.data)
