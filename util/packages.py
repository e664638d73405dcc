"""The packages of all commands: that they are installed, and Ctrl-C while they load. Needs the standard library alone.

A missing package ends a command at its start, before hours of work could lack it at their end.
"""

import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEEDED = "torch torchvision numpy cv2 PIL yaml tensorboardX tqdm gensim scipy matplotlib simplejpeg timm safetensors"
ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def loaded() -> Iterator[None]:
    """Enclose the imports of a command: a missing package or Ctrl-C is one line and exit code 2 or 130."""
    before = signal.signal(signal.SIGINT, lambda *_: _end("interrupted", 130))
    for name in NEEDED.split():
        if importlib.util.find_spec(name) is None:
            mend = ". .venv/bin/activate" if (ROOT / ".venv").exists() else "sh demo.sh, which installs everything"
            _end(f"error: the package '{name}' is not installed for {sys.executable}; first run: {mend}", 2)
    yield
    signal.signal(signal.SIGINT, before)


def _end(line: str, code: int) -> None:
    """End the process at once; an exception that ends an import of C++ halfway can abort the process."""
    print(line, file=sys.stderr, flush=True)
    os._exit(code)
