"""Cache of tensors that are made of frozen ones: kernels folded with their norm, in another layout or precision."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

# Of the first source -> (the sources' state, what was made, their memory); copies of a network have none.
_MADE = WeakIdKeyDictionary()


def half_type(device: torch.device) -> torch.dtype | None:
    """Return the type of automatic mixed precision in which a device computes now; None: it does not."""
    kind = "cpu" if device.type == "meta" else device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def made_once(
    make: Callable[[], Sequence[Tensor]], sources: Sequence[Tensor], key: Hashable, *, keep: bool = True
) -> Sequence[Tensor]:
    """Return ``make()`` in the type of the pass, or the stored result of an earlier call with these sources and key.

    A stored result holds until a source is written to or replaced. It keeps the sources' memory, so that no other
    tensor can have their address. A fused optimizer writes without a new version: a pass with gradients stores nothing
    that is made of learning tensors.
    """
    half = half_type(sources[0].device)
    if not keep or torch.compiler.is_compiling() or _may_change(sources):
        _MADE.pop(sources[0], None)
        return _in_type(make(), half)
    state = half, key, *((x.data_ptr(), x._version, x.dtype, x.shape, x.stride()) for x in sources)
    kept: Any = _MADE.get(sources[0])
    if kept is None or kept[0] != state:
        with torch.inference_mode(False), torch.no_grad():
            kept = _MADE[sources[0]] = state, _in_type(make(), half), [x.detach() for x in sources]  # with versions
    return kept[1]


def _may_change(sources: Sequence[Tensor]) -> bool:
    """Return whether tensors may be written to without a new version: they learn, or are of an inference."""
    return any(x.is_inference() or (x.requires_grad and torch.is_grad_enabled()) for x in sources)


def _in_type(tensors: Sequence[Tensor], half: torch.dtype | None) -> list[Tensor]:
    return [x if half is None else x.to(half) for x in tensors]
