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


def check_python() -> None:
    """End this process with one line and exit code 2 if this Python cannot run the project."""
    if sys.version_info < OLDEST_PYTHON:
        version, oldest = (".".join(map(str, numbers[:2])) for numbers in (sys.version_info, OLDEST_PYTHON))
        end(
            f"Python {oldest} or later is needed, and {sys.executable} is {version}; "
            "call a newer Python, in an environment of its own (README.md, Install)"
        )


def check() -> None:
    """End this process with one line and exit code 2 if Python is too old or lacks a package.

    Commands call it, imports never do. The imports after it are made without a search for garbage, which takes a sixth
    of their time and finds none; ``cli.main`` has it on again.
    """
    gc.disable()
    check_python()
    for name in PACKAGES.split():
        if importlib.util.find_spec(name) is None:
            end(
                f"the package '{name}' is not installed for {sys.executable}; "
                "first run: sh demo.sh, which installs everything into .venv, or . .venv/bin/activate"
            )


def end(problem: str) -> None:
    """End this process with a problem."""
    print(f"error: {problem}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":  # demo.sh, before it installs the packages
    check_python()
