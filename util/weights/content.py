"""The content of anybody's file of weights: plain data and tensors, in memory bounded by the file's size.

Nothing of a file is executed. Objects of other types than torch loads are replaced by stand-ins.
"""

import json
import pickletools
import re
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import safe_open
from torch import Tensor

from util.files.errors import UserError
from util.files.reading import stand_in
from util.files.sizes import TIMES, check_nested, check_unpacked, largest_content

SAFETENSORS = ".safetensors"
PICKLE = "data.pkl"  # the member of torch's archives that says what it holds
PICKLES = 5  # at the beginning of files that are no archives
REFUSED = "builtins.bytearray"  # torch would let it take any memory
REBUILT = "torch._utils._rebuild_"  # begins the functions that make tensors, for which nothing stands in
MAX_VALUES = 2**20  # of plain data beside that, with each alias written out
REFUSED_GLOBAL = re.compile(r"GLOBAL (\S+)")  # in torch's refusals
UNKNOWN_FUNCTION = "unrecognized function"  # there
KINDS = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
)


class _Foreign:
    """Stands for an object of any type but tensors and plain data, of which nothing is loaded or executed."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return {"defaultdict": dict, "deque": list}.get(cls.__name__, partial(object.__new__, cls))()

    def __init__(self, *_: Any, **__: Any):
        pass

    __setstate__ = __init__


def load(path: Path) -> Any:
    """Return what a file holds; of a ``.safetensors`` file with the rest of one of our checkpoints, that checkpoint.

    UserError: it is truncated, damaged, stands for another file, is larger unpacked, contains itself, or holds a tensor
    that is not a plain one.
    """
    try:
        content = _load_safetensors(path) if path.suffix == SAFETENSORS else _load_pickle(path)
        check_nested(content, _parts_of, TIMES * path.stat().st_size + MAX_VALUES)
        _check_tensors(content, largest_content(path))
        return content
    except Exception as error:  # torch and safetensors raise many kinds for damaged files
        if other := stand_in(path):
            raise UserError(f"{path}: is {other}") from None
        raise UserError(
            f"{path}: truncated, or not a checkpoint that can be loaded safely{_reason(error)}",
            fix="copy it anew",
        ) from None


def _reason(error: Exception) -> str:
    """Return in brackets why a file is not loaded; '' for damage, which torch tells in numbers of its own."""
    if refused := REFUSED_GLOBAL.search(str(error)):
        return f" (it would load {refused[1]})"
    if UNKNOWN_FUNCTION in str(error):
        return f" (it would call an {UNKNOWN_FUNCTION})"
    return f" ({error})" if type(error) is ValueError else ""


def _load_safetensors(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = file.metadata() or {}
    if "content" not in header:
        return weights
    rest = json.loads(header["content"])
    if not isinstance(rest, dict):
        raise ValueError("its header is of another kind than that of a checkpoint")
    return {**rest, "weights": weights}


def _load_pickle(path: Path) -> Any:
    """Return the content of a file of torch, with a ``_Foreign`` for each type that torch refuses, such as NumPy's."""
    if zipfile.is_zipfile(path):
        _check_archive(path)
    types = _types_in(path)
    if REFUSED in types:
        raise ValueError(f"it would load {REFUSED}")
    with torch.serialization.safe_globals([_stand_in(name) for name in types if not name.startswith(REBUILT)]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _stand_in(name: str) -> Any:
    module, _, title = name.rpartition(".")
    return type(title, (_Foreign,), {"__module__": module})


def _check_archive(path: Path) -> None:
    """Refuse (ValueError) an archive that is larger unpacked, or of a wrong checksum; torch compares none."""
    with zipfile.ZipFile(path) as archive:
        check_unpacked(archive, path)
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of its member {damaged} is wrong")


def _types_in(path: Path) -> set[str]:
    """Return the types and functions that the pickles of a file name, without loading."""
    types: set[str] = set()
    with suppress(ValueError, EOFError):  # damaged, as torch says
        for pickled in _pickles_of(path):
            for code, argument, _ in pickletools.genops(pickled):
                if code.name == "GLOBAL":
                    types.add(_today(str(argument)))
    return types


def _pickles_of(path: Path) -> Iterator[IO[bytes]]:
    """Yield a stream at the beginning of each pickle of a file, which is read to its end before the next one."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            yield from repeat(file, PICKLES)
        return
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.rpartition("/")[2] == PICKLE:
                with archive.open(name) as member:
                    yield member


def _today(argument: str) -> str:
    """Return the full name of a type today, of its module and name as pickles write it."""
    module, _, name = argument.partition(" ")
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"


def _parts_of(value: Any) -> tuple[int, Iterable[Any]]:
    """Return the own size of what a file holds, and its parts."""
    if isinstance(value, dict):
        return 1, [*value, *value.values()]
    if isinstance(value, list | tuple | set):
        return 1, value
    return 1 + (len(value) if isinstance(value, str | bytes) else 0), ()


def _check_tensors(content: Any, limit: int) -> None:
    """Refuse (ValueError) tensors that are not plain ones: sparse, without values, or expanded by strides."""
    total = 0
    tensors = {id(tensor): (name, tensor) for name, tensor in _tensors_in("the file", content)}  # each once
    for name, tensor in tensors.values():
        is_plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_nested
        if not is_plain or tensor.dtype not in KINDS:
            kind = f"{tensor.dtype}, {tensor.layout}, {tensor.device}".replace("torch.", "")
            raise ValueError(f"{name} is a tensor of the kind {kind}; save it as float32")
        total += tensor.nbytes
    if total > limit:
        raise ValueError(f"its tensors have {total} bytes, more than the file; save them contiguous")


def _tensors_in(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor in nested data with its key; ``name`` is that of the data."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _tensors_in(str(key), part)
    elif isinstance(value, list | tuple | set):
        for part in value:
            yield from _tensors_in(name, part)
