"""What ends a run from outside its code, as one clear line: no memory left, or another of its processes gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
from torch import distributed

from util.engine.device import OUT_OF_MEMORY
from util.errors import PeerLost, UserError

# What the messages of torch's CPU allocator, of cuDNN and of OpenCV have in common when there is no memory, and of gloo
# when a connection is gone; all of them are RuntimeErrors or cv2.errors like any other.
NO_MEMORY = ("can't allocate memory", "CUDNN_STATUS_ALLOC_FAILED", "Insufficient memory", "out of memory")
NO_PEER = ("gloo", "Connection closed by peer", "Connection reset by peer")
SHOWN = 120  # letters of torch's own words in a message


@contextmanager
def as_user_error(lower: str) -> Iterator[None]:
    """Turn errors inside that are not of the code's making into a line; all others pass.

    Args:
        lower: the settings that decide how much memory is needed, the most effective first.

    Raises:
        UserError: out of memory.
        PeerLost: another process of the run has ended.
    """
    try:
        yield
    except (RuntimeError, MemoryError, cv2.error) as error:
        text = " ".join(str(error).split())
        if isinstance(error, OUT_OF_MEMORY) or any(words in text for words in NO_MEMORY):
            said = next((text[text.index(w) :] for w in NO_MEMORY if w in text), text)
            raise UserError(f"out of memory ({said[:SHOWN].rstrip('. ')}); lower {lower}", local=True) from None
        if isinstance(error, _peer_errors()) or any(words in text for words in NO_PEER):
            raise PeerLost("another process of this run has ended, so this one cannot go on") from None
        raise


def _peer_errors() -> tuple[type[Exception], ...]:
    """Return what torch raises when processes cannot reach each other; nothing where it is built without them."""
    return (distributed.DistError,) if distributed.is_available() else ()
