#!/bin/sh
# scipy 1.17.1, opencv-python-headless 5.0.0.93, numpy 2.4.6, Python 3.11
# Guess: the distance to the background where there is none is infinite, or as large as the type allows, in both
#   libraries.
# Behaviour: SciPy's distance_transform_edt() measures to a point outside, in row -1: plausible small numbers. OpenCV
#   has the root of the largest float.
# Seen on 27 November 2026: SciPy [1.0, 1.4, 2.2, 3.2], OpenCV 1.8e+19
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 opencv-python-headless==5.0.0.93 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import cv2
import numpy as np
from scipy import ndimage

mask = np.ones((3, 4), np.uint8)
row = ndimage.distance_transform_edt(mask)[0]
other = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[0, 0]
print(f"SciPy {row.round(1).tolist()}, OpenCV {other:.1e}")
assert np.allclose(row, np.sqrt([1, 2, 5, 10])) and other > 1e18
END
