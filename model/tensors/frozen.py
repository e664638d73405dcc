"""What is made of tensors that do not change is made once: kernels with their norm, in another layout or precision."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

T = TypeVar("T")

# Of the first source -> (the sources' state, what was made, their memory); copies of a network have none.
_MADE = WeakIdKeyDictionary()


def half_type(device: torch.device) -> torch.dtype | None:
    """Return the type of automatic mixed precision in which a device computes now; None: it does not."""
    kind = "cpu" if device.type == "meta" else device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def made_once(make: Callable[[], T], sources: Sequence[Tensor], key: Hashable = ()) -> T:
    """Return what ``make`` makes of tensors, or what an earlier call made of the same ones; ``key`` is what else it reads.

    It is kept as long as nothing that it is made of is written to or is another tensor. Kept sources hold their memory,
    so no other tensor can have their address. A fused optimizer writes without a new version, so a pass with gradients
    keeps nothing of what learns.
    """
    if not _may_be_kept(sources):
        forget(sources[0])
        return make()
    state = key, *((x.data_ptr(), x._version, x.dtype, x.shape, x.stride()) for x in sources)
    kept: Any = _MADE.get(sources[0])
    if kept is None or kept[0] != state:
        with torch.inference_mode(False), torch.no_grad():
            kept = _MADE[sources[0]] = state, make(), [x.detach() for x in sources]  # with memory and version
    return kept[1]


def forget(source: Tensor) -> None:
    """Give back what was made of a tensor, the first of its sources."""
    _MADE.pop(source, None)


def _may_be_kept(sources: Sequence[Tensor]) -> bool:
    """Return whether what is made of tensors may serve later calls: nothing of them learns."""
    if torch.compiler.is_compiling() or any(x.is_inference() for x in sources):
        return False
    learns = any(x.requires_grad for x in sources)
    return not (torch.is_grad_enabled() and learns)
