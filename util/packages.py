"""Run a module of this project as the shell scripts do: ``python util/packages.py MODULE [words]``.

A package that is not installed is one line and exit code 2, before hours of work could lack it at their end.
"""

import importlib.util
import runpy
import sys
from pathlib import Path

NEEDED = "torch torchvision numpy cv2 PIL yaml tensorboardX tqdm gensim scipy matplotlib simplejpeg"
ROOT = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    for name in NEEDED.split():
        if importlib.util.find_spec(name) is None:
            mend = ". .venv/bin/activate" if (ROOT / ".venv").exists() else "sh demo.sh, which installs everything"
            print(
                f"error: the package '{name}' is not installed for {sys.executable}; first run: {mend}", file=sys.stderr
            )
            sys.exit(2)
    module, *sys.argv[1:] = sys.argv[1:]
    sys.path[0] = str(ROOT)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
