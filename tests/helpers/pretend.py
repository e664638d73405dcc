"""A GPU that is not there: tensors keep memory and arithmetic on the CPU, but say that they are on ``cuda:0``.

While ``pretend_cuda`` is active, tensors that were moved to the GPU carry a mark, and what CUDA refuses of them is
refused in CUDA's words: an operation that mixes them with tensors of the CPU (numbers of 0 dimensions and indices are
allowed, as in CUDA), ``.numpy()``, a random generator of the other device. Moves between the devices copy. Counted are
the points at which Python would wait for a GPU, and copies of ordinary, not pinned memory to it.

Unseen: kernels' types, memory, speed, TF32, other threads, and the backward pass.
"""

import contextlib
import re
import sys
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
ANSWERS_OF_TORCH_CUDA = {  # by function
    **dict.fromkeys(["set_device", "synchronize", "manual_seed", "manual_seed_all", "empty_cache"]),
    **dict.fromkeys(["current_device", "memory_allocated", "max_memory_allocated", "reset_peak_memory_stats"], 0),
    "is_available": True,
    "device_count": 1,
    "get_device_name": "pretended",
    "get_device_capability": (8, 0),
    "is_bf16_supported": True,
    "is_current_stream_capturing": False,
    "mem_get_info": (2**36, 2**36),
}
REFUSED = {"numpy", "__array__", "__dlpack__", "pin_memory"}
INDEXING = {"__getitem__", "__setitem__", "index_put", "index_put_"}
MEMORY_METHODS = re.compile("data_ptr|__deepcopy__|.*storage")
NUMBER_COPIES = {"tensor", "as_tensor", "new_tensor"}  # copy Python's numbers
UNCHECKED = {"copy_", "set_", "data.__set__", "grad.__set__", "_has_compatible_shallow_copy_type"}


def on_gpu(value: object) -> bool:
    """Return whether a value is a tensor of the pretended GPU."""
    return isinstance(value, Tensor) and MARK in value.__dict__


def mark(value: Any, gpu: bool = True) -> Any:
    """Let the tensors of a nested value be on the pretended GPU, or on the CPU again, in place; return the value."""
    for tensor in tensors_in(value):
        if gpu and tensor.is_cpu:  # under the mode also False for marked ones
            tensor.__dict__[MARK] = True
        elif not gpu:
            tensor.__dict__.pop(MARK, None)
    return value


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of nested lists, tuples and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(part)


def _device_of(value: object) -> str | None:
    """Return cuda or cpu if an argument names one of them, or is a tensor."""
    if isinstance(value, Tensor):
        return "cuda" if on_gpu(value) else "cpu"
    if not isinstance(value, (str, torch.device)):
        return None
    named = re.match("cuda|cpu", str(value))
    return named and named[0]


def _caller() -> str:
    """Return file:line of the innermost frame of the project beside this file."""
    for frame, line in traceback.walk_stack(sys._getframe()):  # extract_stack would read every file of it
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(REPOSITORY) and str(path) != __file__ and ".venv" not in path.parts:
            return f"{path.relative_to(REPOSITORY)}:{line}"
    return "?"


class PretendCuda(TorchFunctionMode):
    """The mode that marks, refuses and counts; ``waits`` and ``uploads`` have keys (file:line, function)."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = Counter[tuple[str, str]]()
        self.uploads = Counter[tuple[str, str]]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function of torch as a machine with CUDA would, or refuse it."""
        kwargs = dict(kwargs or {})
        first = args[0] if args else None
        name = _name_of(func)
        if on_gpu(first):
            if name in ANSWERS:
                return ANSWERS[name]
            if name in REFUSED:
                raise TypeError(f"can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first [{name}]")
        if name == "pin_memory":
            return first
        if name in ("cpu", "cuda", "to", "type_as"):
            return self._moved(name, func, args, kwargs)
        if MEMORY_METHODS.fullmatch(name):
            return func(*args, **kwargs)
        if name in ("copy_", "data.__set__"):
            return self._overwritten(name, func, args, kwargs)
        return self._computed(name, func, args, kwargs)

    def _computed(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        """Return the result of a function that makes tensors, or of one of tensors of one device."""
        given = list(tensors_in((args, kwargs)))
        has_gpu_tensor = any(map(on_gpu, given))
        asked = _device_of(kwargs.get("device"))
        gpu = asked == "cuda" if asked else has_gpu_tensor
        if gpu and asked:
            kwargs["device"] = torch.device("cpu")
        if gpu:
            self._count_numbers(name, has_gpu_tensor)
            _check_generator(name, kwargs.get("generator"))
        if has_gpu_tensor and not asked and name not in UNCHECKED:
            self._check_devices(name, args, given)
            self._count_wait(name, args, given)
        result = func(*args, **kwargs)
        return mark(result, gpu) if gpu or has_gpu_tensor else result

    def _overwritten(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        """Return the result of a function that gives a tensor the values of another, perhaps of the other device."""
        target, source = args[:2]
        if name == "copy_" and isinstance(source, Tensor) and on_gpu(target) != on_gpu(source):
            counts = self.waits if on_gpu(source) else self.uploads
            counts[_caller(), name] += 1
        result = func(*args, **kwargs)
        if name == "data.__set__":
            mark(target, on_gpu(source))
        return result

    def _count_numbers(self, name: str, has_gpu_tensor: bool) -> None:
        """Count the upload of Python's numbers, which a tensor of the GPU is made of."""
        if name == "new_tensor" or (name in NUMBER_COPIES and not has_gpu_tensor):
            self.uploads[_caller(), name] += 1

    def _count_wait(self, name: str, args: Any, given: list[Tensor]) -> None:
        """Count a function whose result, or its size, depends on values."""
        if WAITS.fullmatch(name) or (name == "where" and len(given) == len(args) == 1) or _selects_by_mask(name, args):
            self.waits[_caller(), name] += 1

    def _check_devices(self, name: str, args: Any, given: list[Tensor]) -> None:
        """Refuse tensors of both devices in one operation."""
        if name in INDEXING:
            on_cpu = self._checked_assignment(name, *args)
        else:
            on_cpu = [t for t in given if not on_gpu(t) and not t.is_meta]
        joins = name in ("cat", "concat", "stack") and on_cpu
        if joins or any(t.ndim for t in on_cpu):
            raise RuntimeError(f"tensors are on two devices, cuda:0 and cpu: {name} of {[t.shape for t in given]}")

    def _checked_assignment(self, name: str, indexed: Tensor, index: Any, *values: Any) -> list[Tensor]:
        """Refuse indices of the GPU for a tensor of the CPU; return the assigned tensors of the other device."""
        indices = list(tensors_in(index))
        if not on_gpu(indexed) and any(map(on_gpu, indices)):
            raise RuntimeError(f"indices should be on the same device as the indexed tensor (cpu) [{name}]")
        if on_gpu(indexed) and not all(map(on_gpu, indices)):
            self.uploads[_caller(), f"{name} by indices of the CPU"] += 1
        if not indices:
            return []
        return [t for t in tensors_in(values) if on_gpu(t) != on_gpu(indexed)]

    def _moved(self, name: str, func: Any, args: Any, kwargs: Any) -> Tensor:
        """Return a tensor on the device that a call of ``to``, ``cpu``, ``cuda`` or ``type_as`` names, a copy."""
        tensor, *rest = args
        if name in ("cpu", "cuda"):
            device = name
            result = tensor
        else:
            device = next(filter(None, map(_device_of, [*rest, *kwargs.values()])), None)
            arguments = [_on_cpu(value) for value in rest]
            result = func(tensor, *arguments, **{key: _on_cpu(value) for key, value in kwargs.items()})
        was_on_gpu = on_gpu(tensor)
        gpu = device == "cuda" if device else was_on_gpu
        if gpu != was_on_gpu:
            result = _in_memory_of_its_own(result, tensor)
            if was_on_gpu:
                self.waits[_caller(), ".cpu()"] += 1
            elif not kwargs.get("non_blocking"):
                self.uploads[_caller(), ".to(gpu)"] += 1
        return mark(result, gpu) if gpu or was_on_gpu else result


def _in_memory_of_its_own(tensor: Tensor, other: Tensor) -> Tensor:
    """Return a tensor that shares no memory with another, a copy if need be."""
    if tensor.untyped_storage().data_ptr() != other.untyped_storage().data_ptr():
        return tensor
    return tensor.clone(memory_format=torch.preserve_format)


def _name_of(func: Any) -> str:
    """Return the name of a function of torch, of a property such as device.__get__."""
    name = getattr(func, "__name__", str(func))
    if name in ("__get__", "__set__"):
        return f"{getattr(func.__self__, '__name__', '?')}.{name}"
    return name


def _check_generator(name: str, generator: Any) -> None:
    """Refuse a generator of the CPU for a tensor of the GPU."""
    if generator is not None and not getattr(generator, "pretended", False):
        raise RuntimeError(f"Expected a 'cuda' device type for generator but found 'cpu' [{name}]")


def _selects_by_mask(name: str, args: Any) -> bool:
    """Return whether a function indexes by a mask, but for an assignment of a number."""
    if name not in INDEXING:
        return False
    has_mask = any(t.dtype in (torch.bool, torch.uint8) for t in tensors_in(args[1]))
    assigns_number = name != "__getitem__" and not any(t.ndim for t in tensors_in(args[2:]))
    return has_mask and not assigns_number


def _on_cpu(value: Any) -> Any:
    """Return the CPU in place of a device or its name, all else as it is."""
    names_device = not isinstance(value, Tensor) and _device_of(value)
    return torch.device("cpu") if names_device else value


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

    shape_alone = {"default": lambda x: {"shape": x.shape, "dtype": x.dtype}}  # tensors of the backward have no mark
    determinism = mock.patch.dict(recomputed._allowed_determinism_checks_to_fns, shape_alone)
    with contextlib.ExitStack() as stack, PretendCuda() as mode, determinism:
        for name, answer in ANSWERS_OF_TORCH_CUDA.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, lambda *_, answer=answer, **__: answer))
        for place, name, value in _replaced():
            stack.enter_context(mock.patch.object(place, name, value))
        yield mode


def _replaced() -> list[tuple[Any, str, Any]]:
    """Return what else of torch is replaced: where, its name, and the replacement."""
    is_autocast_enabled = torch.is_autocast_enabled
    get_autocast_dtype = torch.get_autocast_dtype
    new_parameter = nn.Parameter.__new__
    init_process_group = distributed.init_process_group

    class Autocast(torch.autocast):
        def __init__(self, device_type: str, *args: Any, **kwargs: Any):
            super().__init__("cpu", *args, **kwargs)

    def parameter(cls: type, data: Any = None, *args: Any, **kwargs: Any) -> Any:
        return mark(new_parameter(cls, data, *args, **kwargs), on_gpu(data))

    def init_gloo(_: str, *args: Any, device_id: object = None, **kwargs: Any) -> None:
        init_process_group("gloo", *args, **kwargs)

    replaced = [
        (torch, "autocast", Autocast),
        (torch.amp, "autocast", Autocast),
        (torch.amp.autocast_mode, "autocast", Autocast),
        (torch, "is_autocast_enabled", lambda kind="cuda": is_autocast_enabled("cpu")),
        (torch, "get_autocast_dtype", lambda kind: get_autocast_dtype("cpu")),
        (torch, "Generator", _Generator),
        (nn.Parameter, "__new__", parameter),
        (distributed, "init_process_group", init_gloo),
    ]
    if hasattr(torch, "accelerator"):  # from torch 2.6 on; optimisers ask it for a stream
        replaced.append((torch.accelerator, "current_accelerator", lambda *_, **__: None))
    return replaced
