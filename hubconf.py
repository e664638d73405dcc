"""Entry points of ``torch.hub``: every method by its name, as a network, and ``segmenter``, for photos.

They are loaded as parts of the package ``symnet``: a program's own packages ``model`` and ``util`` stay what they are.
"""

import sys as _sys
from pathlib import Path as _Path

_place = _Path(__file__).resolve().parent / "package"  # which holds the package alone, for other processes too
if str(_place) not in _sys.path:
    _sys.path.append(str(_place))

import symnet as _symnet  # noqa: E402

if _Path(_symnet.__file__).resolve() != _place / "symnet" / "__init__.py":
    raise ImportError(f"this process has another package 'symnet' ({_symnet.__file__}): take that one, or remove it")

from symnet.util import requirements as _requirements  # noqa: E402

_problem = _requirements.python_problem() or _requirements.packages_problem()
if _problem:
    raise ImportError(_problem)

from symnet.photos.hub import networks as _networks  # noqa: E402
from symnet.photos.segmenter import Segmenter as segmenter  # noqa: E402, F401

dependencies = _requirements.PACKAGES.split()
globals().update(_networks())
