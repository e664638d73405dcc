"""CUDA graphs of a GPU that is not there: operators are recorded with the memory they use, and run again over it.

A recording holds what a real graph holds: operators below autograd, and addresses. What Python decided while it was
recorded stays as it was. As on a GPU, nothing is computed while a graph is captured, so what was allocated then has no
values until the first replay; and operators whose result the host must wait for are refused, in the backward pass too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed
from torch.utils._python_dispatch import TorchDispatchMode

NOT_PERMITTED = "operation not permitted when stream is capturing"
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal"}


class PretendedGraph:
    """Stands in for ``torch.cuda.CUDAGraph``."""

    def __init__(self) -> None:
        self.operators = list[tuple[Any, Any, Any, Any]]()  # function, arguments, arguments by name, what it gave

    def replay(self) -> None:
        """Run the operators again, over the memory of the first time."""
        with torch.inference_mode(), torch._C.DisableTorchFunction():
            for function, args, kwargs, recorded in self.operators:
                again = function(*args, **kwargs)
                if function.namespace == "c10d":  # an exchange between processes, which a GPU does in its order
                    distributed.Work.unbox(again[-1]).wait()
                for old, new in zip(tensors_in(recorded), tensors_in(again), strict=True):
                    if old.data_ptr() != new.data_ptr():
                        old.copy_(new)


class _Capture(TorchDispatchMode):
    """Records the operators that run inside the block."""

    def __init__(self, graph: PretendedGraph):
        super().__init__()
        self.graph = graph
        self.allocated = dict[int, Tensor]()  # by address of their memory

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        _check_permitted(function, args)
        output = function(*args, **kwargs)
        given = {_memory_of(x) for x in tensors_in((args, kwargs))}
        for tensor in tensors_in(output):
            if _memory_of(tensor) not in given:
                self.allocated[_memory_of(tensor)] = tensor
        self.graph.operators.append((function, args, kwargs, output))
        return output

    def forget_values(self) -> None:
        """Leave memory that was allocated inside the block as a capture leaves it, without values."""
        with torch.inference_mode(), torch._C.DisableTorchFunction():
            for tensor in self.allocated.values():
                if tensor.is_floating_point():
                    tensor.fill_(torch.nan)
                else:
                    tensor.zero_()


def _check_permitted(function: Any, args: Any) -> None:
    """Refuse an operator whose result, or its size, the host would wait for."""
    name = function._schema.name.removeprefix("aten::")
    by_mask = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
        index.dtype in (torch.bool, torch.uint8) for index in tensors_in(args[1])
    )
    if name in WAITING or by_mask:
        raise RuntimeError(f"CUDA error: {NOT_PERMITTED} [{name}]")


def _memory_of(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of nested lists, tuples and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(part)


@contextmanager
def record_operators(graph: PretendedGraph) -> Iterator[None]:
    """Record in a graph the operators that run inside the block; they have computed nothing after it."""
    with _Capture(graph) as capture:
        yield
    capture.forget_values()
