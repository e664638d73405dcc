"""Entry points of ``torch.hub``: every method by its name, as a network, and ``segmenter``, for photos.

The names ``model`` and ``util`` are this project's packages for the rest of the process.
"""

import sys
from pathlib import Path as _Path

for _name in {"model", "util"} & {*sys.modules}:
    _file = getattr(sys.modules[_name], "__file__", None)
    if _Path(_file or "").resolve() != _Path(__file__).resolve().parent / _name / "__init__.py":
        raise ImportError(
            f"hubconf.py: this process has imported another '{_name}' ({_file}), which is the name of a package of "
            "this project; rename yours, or load this project in a process of its own"
        )

from util.packages import NEEDED as _NEEDED  # noqa: E402
from util.predict.hub import networks as _networks  # noqa: E402
from util.predict.segmenter import Segmenter as segmenter  # noqa: E402, F401

dependencies = _NEEDED.split()
globals().update(_networks())
