"""Sym-Net as one package: ``from symnet import Segmenter``, and the command ``symnet``.

It holds the folders (``names.FOLDERS``) by the names ``symnet.model`` and so on: in an installed package as files
(``build.py``), in a clone by loading them from there (``names.py``). So a program keeps its own packages ``model`` and
``util``.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from photos import Prediction, Segmenter, UserError
    from util.report.frame import results

__all__ = ["Prediction", "Segmenter", "UserError", "__version__", "results"]
__version__: str

_HERE = Path(__file__).resolve().parent
if not (_HERE / "util").is_dir():  # in a clone, which has the folders in its root
    from symnet.names import Finder

    __path__.append(str(_HERE.parents[1]))
    sys.meta_path.insert(0, Finder())


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> object:
    """Return what needs torch, or a file, only where it is asked for."""
    if name == "__version__":
        return import_module("symnet.util.cli").version()
    if name == "results":
        return import_module("symnet.util.report.frame").results
    if name in __all__:
        return getattr(import_module("symnet.photos"), name)
    raise AttributeError(f"module 'symnet' has no attribute '{name}'")
