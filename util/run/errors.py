"""Errors of the machine as one clear line: no memory left, or another process of the run has ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import distributed

from util.errors import PEER_LOST, PeerLost, UserError
from util.run.device import OUT_OF_MEMORY

# Words in the messages of torch's CPU allocator, of cuDNN and of OpenCV when there is no memory, and of gloo when a
# connection is lost. Their types, RuntimeError and cv2.error, are those of any other error.
NO_MEMORY = ("can't allocate memory", "CUDNN_STATUS_ALLOC_FAILED", "Insufficient memory", "out of memory")
NO_PEER = ("gloo", "Connection closed by peer", "Connection reset by peer", "client socket", "wait timeout")
MACHINE, OPENCV = (
    (RuntimeError, MemoryError, TimeoutError, ConnectionError),
    "cv2",
)  # types, and the module of cv2.error
SHOWN = 120  # characters of the original message that are shown


@contextmanager
def as_user_error(lower: str) -> Iterator[None]:
    """Raise errors of the machine in the block as errors of one line; all others pass unchanged.

    Args:
        lower: the settings that decide how much memory is needed, the most effective first.

    Raises:
        UserError: out of memory.
        PeerLost: another process of the run has ended.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, MACHINE) and type(error).__module__ != OPENCV:
            raise
        text = " ".join(str(error).split())
        if isinstance(error, OUT_OF_MEMORY) or any(words in text for words in NO_MEMORY):
            said = next((text[text.index(w) :] for w in NO_MEMORY if w in text), text)
            raise UserError(f"out of memory ({said[:SHOWN].rstrip('. ')}); lower {lower}", local=True) from None
        if isinstance(error, (TimeoutError, ConnectionError, *_peer_errors())) or any(
            words in text for words in NO_PEER
        ):
            raise PeerLost(PEER_LOST) from None
        raise


def memory_settings(stage: str) -> str:
    """Return the settings that decide how much memory a training stage (base, meta) needs, in words."""
    return (
        f"{stage}_stage.batch (or split it with a larger {stage}_stage.accumulate), test.batch, which validates, "
        f"{stage}_stage.size or data.workers"
    )


def _peer_errors() -> tuple[type[Exception], ...]:
    """Return the error types of lost connections; none if torch is built without distributed training."""
    return (distributed.DistError,) if distributed.is_available() else ()
