"""The Python and the packages that this project needs; an entry point checks them before all other imports.

Python 3.6 can read this file and the entry points, so that an older Python than needed ends in one line, too.
"""

import gc
import importlib.util
import sys

OLDEST_PYTHON = (3, 10)
PACKAGES = (
    "torch torchvision numpy pandas cv2 PIL yaml tensorboardX tqdm gensim scipy skimage matplotlib simplejpeg timm "
    "safetensors pi_heif"
)


def python_problem() -> str:
    """Return why this Python cannot run the project, and the way out; '' if it can."""
    if sys.version_info >= OLDEST_PYTHON:
        return ""
    version, oldest = (".".join(map(str, numbers[:2])) for numbers in (sys.version_info, OLDEST_PYTHON))
    remedy = "call a newer Python, in an environment of its own (README.md, Install)"
    return f"Python {oldest} or later is needed, and {sys.executable} is {version}; {remedy}"


def packages_problem() -> str:
    """Return which required package this Python lacks, and the way out; '' if it has all."""
    missing = [name for name in PACKAGES.split() if importlib.util.find_spec(name) is None]
    remedy = "first run: sh demo.sh, which installs everything into .venv, or . .venv/bin/activate"
    return f"the package '{missing[0]}' is not installed for {sys.executable}; {remedy}" if missing else ""


def check() -> None:
    """End this process with one line and exit code 2 if Python is too old or lacks a package.

    Commands call it, imports never do. The imports after it are made without a search for garbage, which takes a sixth
    of their time and finds none; ``cli.main`` has it on again.
    """
    gc.disable()
    end_by(python_problem() or packages_problem())


def end_by(problem: str) -> None:
    """End this process with a problem, if there is one."""
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":  # demo.sh, before it installs the packages
    end_by(python_problem())
