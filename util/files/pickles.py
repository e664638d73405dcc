"""Pickles of anybody: plain data and NumPy arrays, in bounded time; nothing of them is executed."""

import io
import pickle
import pickletools
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import numpy as np

MAX_KEYS = 2**24  # values in tuples that are keys, with each alias written out; a second to hash
PICKLED = {  # the names that a pickled NumPy array needs
    "numpy": {"ndarray", "dtype"},
    **{f"numpy.{core}.multiarray": {"_reconstruct"} for core in ("core", "_core")},
    **{f"numpy.{core}.numeric": {"_frombuffer"} for core in ("core", "_core")},
    "_codecs": {"encode"},
}
# operations
GETS = ("GET", "BINGET", "LONG_BINGET")
PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
TUPLES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET")
HASHES = ("SETITEM", "SETITEMS", "DICT", "ADDITEMS", "FROZENSET")
BOUND = "mark"  # pickletools' name of the mark below several values


class Damaged(ValueError):
    """A pickle is damaged."""


class Operation(NamedTuple):
    """An operation of a pickle."""

    name: str
    argument: Any
    takes: list[str]  # kinds of values that it takes from the stack
    gives: list[str]


def operations_in(file: IO[bytes]) -> Iterator[Operation]:
    """Yield the operations of the next pickle in a file.

    Damaged: it is damaged. ValueError: its keys hold tuples in each other so often that hashing them takes too long.
    """
    sizes = _Sizes()
    for code, argument, _ in _codes_in(file):
        takes = [kind.name for kind in code.stack_before]
        gives = [kind.name for kind in code.stack_after]
        operation = Operation(code.name, argument, takes, gives)
        sizes.take(operation)
        yield operation


def _codes_in(file: IO[bytes]) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]]:
    try:
        yield from pickletools.genops(file)
    except ValueError as error:
        raise Damaged(str(error)) from None


class _Sizes:
    """The numbers of values in tuples on a pickle's stack, with each alias written out; all else counts as one."""

    def __init__(self) -> None:
        self.stack: list[int] = []  # 0 is a mark
        self.memo: dict[int, int] = {}
        self.hashed = 0

    def take(self, operation: Operation) -> None:
        """Follow an operation; errors as ``operations_in``."""
        name = operation.name
        if name in GETS:
            self.stack.append(self.memo.get(int(operation.argument), 1))
        elif name in PUTS:
            self.memo[int(operation.argument)] = self._top()
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self._top()
        elif name == "DUP":
            self.stack.append(self._top())
        else:
            self._replace(operation)

    def _replace(self, operation: Operation) -> None:
        """Follow an operation that takes values from the stack and gives others."""
        taken = list(self._taken(operation.takes))
        if operation.name in HASHES:
            self.hashed += sum(taken) - len(taken)
        if self.hashed > MAX_KEYS:
            raise ValueError(f"its keys hold more than {MAX_KEYS} values, with each alias written out")
        size = 1 + sum(taken) if operation.name in TUPLES else 1
        self.stack += [0 if kind == BOUND else size for kind in operation.gives]

    def _top(self) -> int:
        if not self.stack:
            raise Damaged("it is damaged")
        return self.stack[-1]

    def _taken(self, kinds: list[str]) -> Iterator[int]:
        """Yield the sizes of the values that an operation takes."""
        if BOUND in kinds:
            while size := self._pop():
                yield size
            kinds = kinds[: kinds.index(BOUND)]
        for _ in kinds:
            yield self._pop()

    def _pop(self) -> int:
        self._top()
        return self.stack.pop()


def load_plain(content: bytes) -> Any:
    """Return what a pickle holds; a damaged or unsafe one raises any exception, ``operations_in`` among them."""
    for _ in operations_in(io.BytesIO(content)):
        pass
    return RestrictedUnpickler(io.BytesIO(content)).load()


class RestrictedUnpickler(pickle.Unpickler):
    """Unpickles plain data and NumPy arrays of others; refuses everything else, and executes nothing."""

    def __init__(self, file: IO[bytes]):
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle names; UnpicklingError if that is not allowed."""
        if (module, name) == ("detectron2.structures.boxes", "BoxMode"):  # in published annotations; it is a number
            return int
        if name not in PICKLED.get(module, set()):
            raise pickle.UnpicklingError(f"it would load {module}.{name}")
        if hasattr(np, "_core"):
            module = module.replace("numpy.core", "numpy._core")
        return super().find_class(module, name)
