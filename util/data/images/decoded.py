"""A cache of decoded images and masks in a memory-mapped file that all processes and runs share.

Decoding a photo of VOC's size and its mask takes most of the time of a training view; reading both from this file takes
almost none. The file holds four bytes per pixel, then a checksum of each image, and lies beside the index. It is
rebuilt, and the old one removed, when a photo or a mask changes. A process compares each image with its checksum at the
first access.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import zlib
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import accumulate
from pathlib import Path

import cv2
import numpy as np

from util.config.settings import DataSettings
from util.data.images.read import STACKED_CHANNELS, read_stacked
from util.data.lists.index import Index
from util.errors import UserError, WriteError
from util.files import fingerprint, write_atomically
from util.parallel import parallel_map

log = logging.getLogger("symnet")
FORMAT = 2  # raise when the stored content changes
SUFFIX = ".pictures"
GIB = 2**30
CHECKSUM = np.dtype("<u4")
MIN_FREE = 2  # free space on the disk before writing, as a multiple of the file's size


@dataclass(frozen=True)
class MappedImages:
    """Stacked images by row; the file is opened at the first access, so that the object can be sent to other processes.

    Attributes:
        path: file of the stacked images, (H, W, 4) uint8, one after the other, then their checksums.
        starts: offset of each image in bytes, and the end of the last one.
        sizes: (images, 2) height and width.
    """

    path: Path
    starts: tuple[int, ...]
    sizes: np.ndarray

    @classmethod
    def of(cls, path: Path, sizes: np.ndarray) -> MappedImages:
        """Return the images of these sizes in a file that may not exist yet."""
        lengths = (sizes.prod(1) * STACKED_CHANNELS).tolist()
        return cls(path, tuple(accumulate(lengths, initial=0)), sizes)

    def __getitem__(self, row: int) -> np.ndarray:
        """Return a stacked image, (H, W, 4) uint8, read-only.

        Raises:
            UserError: the image is not the one that was written.
        """
        content = self._content[self.starts[row] : self.starts[row + 1]]
        if row not in self._sound:
            if zlib.crc32(content.data) != int(self._checksums[row]):
                raise UserError(
                    f"{self.path}: this cache of decoded images is damaged; remove it, a run makes it again"
                )
            self._sound.add(row)
        return content.reshape(*self.sizes[row], STACKED_CHANNELS)

    @cached_property
    def _sound(self) -> set[int]:
        """Rows that this process has compared with their checksums."""
        return set()

    @cached_property
    def _checksums(self) -> np.ndarray:
        return self._content[self.starts[-1] :].view(CHECKSUM)

    @cached_property
    def _content(self) -> np.ndarray:
        return np.memmap(self.path, np.uint8, mode="r").view(np.ndarray)

    def __getstate__(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k not in ("_content", "_checksums", "_sound")}

    @property
    def length(self) -> int:
        """The size of the complete file in bytes."""
        return self.starts[-1] + len(self.sizes) * CHECKSUM.itemsize

    @property
    def complete(self) -> bool:
        """Whether the file exists in its full size."""
        return self.path.is_file() and self.path.stat().st_size == self.length


def with_decoded_images(index: Index, data: DataSettings, list_file: str, progress: bool = True) -> Index:
    """Return the index with a cache of its decoded images, unchanged if they take more than ``data.decoded_gib``.

    A full disk is no error: the log says so, and images are decoded at each access.

    Args:
        list_file: the list of the index; its name is part of the cache file's name.
        progress: whether this process shows progress and logs at level INFO.

    Raises:
        UserError: a photo or mask is missing or damaged, or their sizes differ.
    """
    size = int(index.sizes.prod(1).sum()) * STACKED_CHANNELS
    allowed = data.decoded_gib * GIB
    report = log.info if progress else log.debug
    if size > allowed:
        if allowed:
            report(
                "no cache of decoded images: it would take %.1f GiB, data.decoded_gib is %g", size / GIB, allowed / GIB
            )
        return index
    lacking = "this image does not exist; restore it or take it out of the list"
    made_from = fingerprint(index.images, FORMAT, index.fingerprint, cv2.__version__, lacking=lacking)
    own = hashlib.sha256(f"{Path(data.root).resolve()} {list_file}".encode()).hexdigest()[:8]
    stem = f"{data.name}-{Path(list_file).stem}-{own}"
    path = Path(data.cache) / f"{stem}-{made_from[:16]}{SUFFIX}"
    decoded = MappedImages.of(path, index.sizes)
    if not decoded.complete:
        try:
            _decode_all(decoded, index, f"decode {data.name}", progress)
        except WriteError as error:
            report("no cache of decoded images: %s", error)
            return index
        name = re.escape(f"{data.name}-{Path(list_file).stem}")  # in format 1 without the list's own digest
        outdated = re.compile(rf"{name}(-{own})?-[0-9a-f]{{16}}{re.escape(SUFFIX)}")
        for old in path.parent.iterdir():
            if old != path and outdated.fullmatch(old.name):  # of this list alone
                old.unlink(missing_ok=True)
        report("cache of decoded images: %s, %.1f GiB (data.decoded_gib)", path, size / GIB)
    return replace(index, decoded=decoded)


def _decode_all(decoded: MappedImages, index: Index, title: str, progress: bool) -> None:
    """Write every image of the index to the file."""
    length, folder = decoded.length, decoded.path.parent

    def write(file: Path) -> None:
        if shutil.disk_usage(folder).free < MIN_FREE * length:
            raise WriteError(f"{folder}: less than {MIN_FREE * length / GIB:.1f} GiB are free")
        with file.open("wb") as out:
            out.truncate(length)
        jobs = list(zip(index.images, index.masks, decoded.starts))
        checksums = list(parallel_map(partial(_decode, file=file), jobs, title, progress=progress))
        with file.open("r+b") as out:
            out.seek(decoded.starts[-1], os.SEEK_SET)
            out.write(np.array(checksums, CHECKSUM).data)

    write_atomically(decoded.path, write, durable=True)


def _decode(job: tuple[Path, Path, int], file: Path) -> int:
    """Decode an image and its mask, write them to a file at an offset, and return their checksum."""
    image, mask, start = job
    stacked = read_stacked(image, mask)
    with file.open("r+b") as out:
        out.seek(start, os.SEEK_SET)
        out.write(stacked.data)
    return zlib.crc32(stacked.data)
