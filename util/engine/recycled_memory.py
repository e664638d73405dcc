"""Memory for the feature cache outside the allocator's, which later features of the same size take over.

Kept features live long and the maps of an encoder's pass do not. In one heap the kept ones pin the gaps between the
others, and a process grows to twice what it keeps; given back to the system, every new map costs page faults again.
"""

from __future__ import annotations

import contextlib
import mmap
import weakref
from collections import defaultdict

import numpy as np
import torch
from torch import Tensor

SMALL = 2**20  # bytes below which a tensor stays where it is
PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}  # not on Windows


class RecycledMemory:
    """Copies of tensors in pages of their own; pages whose tensors are all gone serve the next copy of their size."""

    def __init__(self) -> None:
        self._free: dict[int, list[mmap.mmap]] = defaultdict(list)

    def keep(self, x: Tensor) -> Tensor:
        """Return a copy of a dense CPU tensor with the same strides; a small tensor, or one of a GPU, itself."""
        if x.nbytes < SMALL or not x.is_cpu:
            return x
        pages = self._pages(x.nbytes)
        array = np.frombuffer(pages, dtype=np.uint8)
        weakref.finalize(array, self._give_back, pages).atexit = False  # when no tensor shows these pages any more
        out = torch.from_numpy(array).view(x.dtype).as_strided(x.shape, torch.empty_like(x, device="meta").stride())
        return out.copy_(x)

    def _give_back(self, pages: mmap.mmap) -> None:
        self._free[len(pages)].append(pages)

    def _pages(self, size: int) -> mmap.mmap:
        if self._free[size]:
            return self._free[size].pop()
        self._free.clear()  # pages of other sizes may never be asked for again
        pages = mmap.mmap(-1, size, **PRIVATE)
        with contextlib.suppress(AttributeError, OSError):  # not on every system
            pages.madvise(mmap.MADV_HUGEPAGE)
        return pages
