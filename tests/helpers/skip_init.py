"""Build a network without drawing its initial values, for tests that overwrite all of them: drawing takes seconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from torch import Tensor, nn

DRAWN = ("uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_")


@contextmanager
def skip_init() -> Iterator[None]:
    """Leave the parameters of modules built inside as allocated; constants (ones, zeros) are still written."""

    def leave(tensor: Tensor, *args: object, **kwargs: object) -> Tensor:
        return tensor

    with mock.patch.multiple(nn.init, **dict.fromkeys(DRAWN, leave)):
        yield
