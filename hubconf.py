"""Entry points of ``torch.hub``: every method by its name, as a network, and ``segmenter``, for photos.

The names ``annotations``, ``model``, ``photos`` and ``util`` are this project's packages for the rest of the process.
"""

import sys as _sys
from pathlib import Path as _Path


def _refuse_other_packages() -> None:
    """Raise ImportError, in one line, where this process has another package by a name of one of this project's."""
    here = _Path(__file__).resolve().parent
    for name in ("annotations", "model", "photos", "util"):
        other = _sys.modules.get(name)
        if other is None:
            continue
        place = _Path(getattr(other, "__file__", None) or next(iter(other.__path__)))
        if here not in place.resolve().parents:
            problem = f"this process has another package '{name}' ({place}), and this project's has the same name"
            remedy = (
                "run it in a process of its own (python predict.py --serve), or export the network (predict.py export)"
            )
            raise ImportError(f"{problem}: {remedy}")


_refuse_other_packages()

from util import requirements as _requirements  # noqa: E402

_problem = _requirements.python_problem() or _requirements.packages_problem()
if _problem:
    raise ImportError(_problem)

from photos.hub import networks as _networks  # noqa: E402
from photos.segmenter import Segmenter as segmenter  # noqa: E402, F401

dependencies = _requirements.PACKAGES.split()
globals().update(_networks())
