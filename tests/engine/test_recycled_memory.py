"""Copies in pages of their own equal their originals, and pages serve again only when no tensor shows them."""

from __future__ import annotations

import torch

from util.engine.feature_cache import SMALL, RecycledMemory

SHAPE = (1, 128, 80, 60)  # 2.3 MiB in float32


def test_a_copy_has_values_type_and_strides_of_its_original() -> None:
    memory = RecycledMemory()
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(2, *SHAPE[1:]).to(dtype).contiguous(memory_format=torch.channels_last)
        for original in (x, x[1:], x.contiguous()):
            copy = memory.keep(original)
            assert copy.data_ptr() != original.data_ptr() and copy.dtype == dtype
            assert torch.equal(copy, original) and copy.stride() == torch.empty_like(original).stride()
    small = torch.zeros(SMALL // 8)
    assert memory.keep(small) is small


def test_pages_serve_again_when_the_last_view_of_them_is_gone() -> None:
    memory, x = RecycledMemory(), torch.ones(SHAPE)
    first = memory.keep(x)
    address, view = first.data_ptr(), first[0, :3]
    del first
    other = memory.keep(x * 2)
    assert other.data_ptr() != address and view.eq(1).all()
    del view
    assert memory.keep(x * 3).data_ptr() == address and other.eq(2).all()


def test_pages_of_other_sizes_are_given_up() -> None:
    memory, x = RecycledMemory(), torch.ones(SHAPE)
    kept = [memory.keep(x) for _ in range(3)]
    kept.clear()
    assert sum(map(len, memory._free.values())) == 3
    larger = memory.keep(torch.ones(2, *SHAPE))
    assert not any(memory._free.values()) and larger.eq(1).all()
