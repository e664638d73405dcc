#!/bin/sh
# tifffile 2026.3.3, pillow 13.0.0, opencv-python-headless 5.0.0.93, numpy 2.4.6, Python 3.11
# Guess: a bool array that tifffile writes is the same in Pillow and OpenCV: True is white, 4 pixels of 64.
# Behaviour: it states that 0 is white, and stores True as 1: both other programs show the object black on white, 60
#   pixels; tifffile itself reads 4.
# Seen on 27 November 2026: tifffile 4, Pillow 60, OpenCV 60
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tifffile==2026.3.3 pillow==13.0.0 opencv-python-headless==5.0.0.93 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import tempfile
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image

mask = np.zeros((8, 8), bool)
mask[2:4, 2:4] = True
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "mask.tif")
    tifffile.imwrite(path, mask)
    counts = (
        int(tifffile.imread(path).sum()),
        int(np.asarray(Image.open(path)).sum()),
        int((cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 0).sum()),
    )
print("tifffile {}, Pillow {}, OpenCV {}".format(*counts))
assert counts == (4, 60, 60)
END
