"""A GPU that is not there: tensors keep memory and arithmetic on the CPU, but say that they are on ``cuda:0``.

While ``pretend_cuda`` is active, tensors that were moved to the GPU carry a mark, and what CUDA refuses of them is
refused in CUDA's words: an operation that mixes them with tensors of the CPU (numbers of 0 dimensions and indices are
allowed, as in CUDA), ``.numpy()``, a random generator of the other device. Moves between the devices copy. Counted are
the points at which Python would wait for a GPU, and copies of ordinary, not pinned memory to it.

Unseen: kernels' types, memory, speed, TF32, ``torch.compile``, other threads, and the backward pass.
"""

import contextlib
import re
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, distributed, nn
from torch.overrides import TorchFunctionMode

from tests.helpers.paths import REPOSITORY

GPU = torch.device("cuda", 0)
MARK = "_on_pretended_gpu"
WAITS = re.compile(
    "item|tolist|nonzero|argwhere|unique|unique_consecutive|masked_select|bincount|equal|allclose|is_nonzero|histc|"
    "repeat_interleave|multinomial|__(bool|int|float|index|contains|format|repr)__"
)
ANSWERS = {"device.__get__": GPU, "is_cuda.__get__": True, "is_cpu.__get__": False, "get_device": 0}
REFUSED = {"numpy", "__array__", "__dlpack__", "pin_memory"}
INDEXING = {"__getitem__", "__setitem__", "index_put", "index_put_"}
OF_NUMBERS = {"tensor", "as_tensor", "new_tensor"}  # copy Python's numbers
UNCHECKED = {"copy_", "set_", "data.__set__", "grad.__set__", "_has_compatible_shallow_copy_type"}


def on_gpu(value: object) -> bool:
    """Return whether a value is a tensor of the pretended GPU."""
    return isinstance(value, Tensor) and MARK in value.__dict__


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of nested lists, tuples and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(part)


def mark(value: Any, gpu: bool = True) -> Any:
    """Let the tensors of a nested value be on the pretended GPU, or on the CPU again, in place; return the value."""
    for tensor in tensors_in(value):
        if gpu and tensor.is_cpu:  # under the mode also False for marked ones
            tensor.__dict__[MARK] = True
        elif not gpu:
            tensor.__dict__.pop(MARK, None)
    return value


def _device_of(value: object) -> str | None:
    """Return cuda or cpu if an argument names one of them, or is a tensor."""
    if isinstance(value, Tensor):
        return "cuda" if on_gpu(value) else "cpu"
    found = re.match("cuda|cpu", str(value)) if isinstance(value, (str, torch.device)) else None
    return found and found[0]


def _caller() -> str:
    """Return file:line of the innermost frame of the project beside this file."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if path.is_relative_to(REPOSITORY) and str(path) != __file__ and ".venv" not in path.parts:
            return f"{path.relative_to(REPOSITORY)}:{frame.lineno}"
    return "?"


class PretendCuda(TorchFunctionMode):
    """The mode that marks, refuses and counts; ``waits`` and ``uploads`` have keys (file:line, function)."""

    def __init__(self) -> None:
        super().__init__()
        self.waits, self.uploads = Counter[tuple[str, str]](), Counter[tuple[str, str]]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function of torch as a machine with CUDA would, or refuse it."""
        kwargs, first, name = dict(kwargs or {}), args[0] if args else None, getattr(func, "__name__", str(func))
        if name in ("__get__", "__set__"):  # properties, such as device.__get__
            name = f"{getattr(func.__self__, '__name__', '?')}.{name}"
        if name in ANSWERS and on_gpu(first):
            return ANSWERS[name]
        if name in REFUSED and on_gpu(first):
            raise TypeError(f"can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first [{name}]")
        if name == "pin_memory":
            return first
        if name in ("cpu", "cuda", "to", "type_as"):
            return self._moved(name, func, first, args[1:], kwargs)
        if name in ("data_ptr", "__deepcopy__") or name.endswith("storage"):
            return func(*args, **kwargs)
        return self._computed(name, func, args, kwargs)

    def _computed(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        first, given = args[0] if args else None, list(tensors_in((args, kwargs)))
        marked, asked = [t for t in given if on_gpu(t)], _device_of(kwargs.get("device"))
        gpu = asked == "cuda" if asked else bool(marked)
        kwargs |= {"device": torch.device("cpu")} if gpu and asked else {}
        if name in OF_NUMBERS and gpu and (name == "new_tensor" or not marked):
            self.uploads[_caller(), name] += 1
        generator = kwargs.get("generator")
        if gpu and not getattr(generator, "pretended", generator is None):
            raise RuntimeError(f"Expected a 'cuda' device type for generator but found 'cpu' [{name}]")
        if marked and not asked and name not in UNCHECKED:
            self._check(name, args, given)
            masked = name in INDEXING and any(t.dtype in (torch.bool, torch.uint8) for t in tensors_in(args[1]))
            assigned = name != "__getitem__" and not any(t.ndim for t in tensors_in(args[2:]))
            if WAITS.fullmatch(name) or (masked and not assigned) or (name == "where" and len(given) == len(args) == 1):
                self.waits[_caller(), name] += 1
        other = args[1] if name in ("copy_", "data.__set__") else None
        if name == "copy_" and isinstance(other, Tensor) and on_gpu(first) != on_gpu(other):
            (self.waits if on_gpu(other) else self.uploads)[_caller(), name] += 1
        out = func(*args, **kwargs)
        if name == "data.__set__":
            mark(first, on_gpu(other))
        return mark(out, gpu) if name != "copy_" and (gpu or marked) else out

    def _check(self, name: str, args: Any, given: list[Tensor]) -> None:
        """Refuse tensors of both devices in one operation."""
        loose = [t for t in given if not on_gpu(t) and not t.is_meta]
        if name in INDEXING:
            indices = list(tensors_in(args[1]))
            if not on_gpu(args[0]) and any(map(on_gpu, indices)):
                raise RuntimeError(f"indices should be on the same device as the indexed tensor (cpu) [{name}]")
            if on_gpu(args[0]) and not all(map(on_gpu, indices)):
                self.uploads[_caller(), f"{name} by indices of the CPU"] += 1
            loose = [t for t in tensors_in(args[2:]) if indices and on_gpu(t) != on_gpu(args[0])]
        if any(t.ndim for t in loose) or (loose and name in ("cat", "concat", "stack")):
            raise RuntimeError(f"tensors are on two devices, cuda:0 and cpu: {name} of {[t.shape for t in given]}")

    def _moved(self, name: str, func: Any, first: Tensor, rest: Any, kwargs: Any) -> Tensor:
        """Return a tensor on the device that a call of ``to``, ``cpu``, ``cuda`` or ``type_as`` names, a copy."""
        out, had, named = first, on_gpu(first), [*rest, *kwargs.values()] if name in ("to", "type_as") else [name]
        gpu = next((kind == "cuda" for kind in map(_device_of, named) if kind), had)
        if name in ("to", "type_as"):
            here = {id(v): torch.device("cpu") for v in named if not isinstance(v, Tensor) and _device_of(v)}
            out = func(first, *(here.get(id(v), v) for v in rest), **{k: here.get(id(v), v) for k, v in kwargs.items()})
        if gpu != had:
            if out.untyped_storage().data_ptr() == first.untyped_storage().data_ptr():
                out = out.clone(memory_format=torch.preserve_format)
            if had:
                self.waits[_caller(), ".cpu()"] += 1
            elif not kwargs.get("non_blocking"):
                self.uploads[_caller(), ".to(gpu)"] += 1
        return mark(out, gpu) if gpu or had else out


class _Generator(torch.Generator):
    """A generator of the CPU that knows the device that it was asked for."""

    def __new__(cls, device: Any = "cpu") -> Any:
        return super().__new__(cls, device="cpu")

    def __init__(self, device: Any = "cpu"):
        self.pretended = _device_of(device) == "cuda"


@contextlib.contextmanager
def pretend_cuda() -> Iterator[PretendCuda]:
    """Pretend in the block; autocast of the GPU is that of the CPU, and NCCL is gloo."""
    import torch._dynamo.trace_rules  # knows functions by their identity: imported before they are replaced
    import torch.utils.checkpoint as recomputed

    cuda = dict.fromkeys(["set_device", "synchronize", "manual_seed", "manual_seed_all", "empty_cache"])
    cuda |= dict.fromkeys(["current_device", "memory_allocated", "max_memory_allocated", "reset_peak_memory_stats"], 0)
    cuda |= {"is_available": True, "device_count": 1, "get_device_name": "pretended", "get_device_capability": (8, 0)}
    cuda |= {"is_bf16_supported": True, "is_current_stream_capturing": False, "mem_get_info": (2**36, 2**36)}
    enabled, dtype = torch.is_autocast_enabled, torch.get_autocast_dtype
    parameter, init = nn.Parameter.__new__, distributed.init_process_group

    class Autocast(torch.autocast):
        def __init__(self, device_type: str, *args: Any, **kwargs: Any):
            super().__init__("cpu", *args, **kwargs)

    replaced: list[tuple[Any, str, Any]] = [
        *((torch.cuda, name, lambda *_, value=value, **__: value) for name, value in cuda.items()),
        *((place, "autocast", Autocast) for place in (torch, torch.amp, torch.amp.autocast_mode)),
        (torch, "is_autocast_enabled", lambda kind="cuda": enabled("cpu")),
        (torch, "get_autocast_dtype", lambda kind: dtype("cpu")),
        (torch, "Generator", _Generator),
        (nn.Parameter, "__new__", lambda cls, data=None, *a, **k: mark(parameter(cls, data, *a, **k), on_gpu(data))),
        (distributed, "init_process_group", lambda _, *a, device_id=None, **k: init("gloo", *a, **k)),
    ]
    if hasattr(torch, "accelerator"):  # from torch 2.6 on; optimisers ask it for a stream
        replaced.append((torch.accelerator, "current_accelerator", lambda *_, **__: None))
    shape_alone = {"default": lambda x: {"shape": x.shape, "dtype": x.dtype}}  # tensors of the backward have no mark
    determinism = mock.patch.dict(recomputed._allowed_determinism_checks_to_fns, shape_alone)
    with contextlib.ExitStack() as stack, PretendCuda() as mode, determinism:
        for place, name, value in replaced:
            stack.enter_context(mock.patch.object(place, name, value))
        yield mode
