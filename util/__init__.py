"""Everything around the networks: settings, data, the engine that trains and tests, and reports.

A package that is missing ends a command at its start, before hours of work lack it at the end.
"""

import importlib.util
import sys
from pathlib import Path

NEEDED = "torch torchvision numpy cv2 PIL yaml tensorboardX tqdm gensim scipy matplotlib simplejpeg timm safetensors"

for _name in NEEDED.split():
    if importlib.util.find_spec(_name) is None:
        _has_venv = (Path(__file__).resolve().parents[1] / ".venv").exists()
        _mend = ". .venv/bin/activate" if _has_venv else "sh demo.sh, which installs everything"
        _error = f"error: the package '{_name}' is not installed for {sys.executable}"
        print(f"{_error}; first run: {_mend}", file=sys.stderr)
        sys.exit(2)
