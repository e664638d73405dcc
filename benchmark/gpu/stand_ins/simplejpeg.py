"""In place of ``simplejpeg``, which this project uses to find damage in photos: finds none."""

from __future__ import annotations

from typing import Any


def decode_jpeg_header(content: bytes, **_: Any) -> tuple[int, int, str, str]:
    """Return a header without a size."""
    return 0, 0, "YCbCr", ""


def decode_jpeg(content: bytes, *_: Any, **__: Any) -> None:
    """Decode nothing."""
