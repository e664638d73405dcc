#!/bin/sh
# pillow 13.0.0, opencv-python-headless 5.0.0.93, numpy 2.4.6, Python 3.11
# Guess: a grey PNG of 16 bits becomes one of 8 bits by a division by 256 in Pillow's convert("L"), as in OpenCV's
#   imread().
# Behaviour: Pillow cuts values at 255: nearly all of the photo is white. OpenCV divides.
# Seen on 27 November 2026: 16 bits [0, 100, 5000, 30000, 65535], Pillow [0, 100, 255, 255, 255], OpenCV [0, 0, 19,
#   117, 255]
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 opencv-python-headless==5.0.0.93 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import io

import cv2
import numpy as np
from PIL import Image

values = np.array([[0, 100, 5000, 30000, 65535]], np.uint16)
_, encoded = cv2.imencode(".png", values)
by_pillow = np.asarray(Image.open(io.BytesIO(encoded.tobytes())).convert("L"))
by_opencv = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)
print(f"16 bits {values[0].tolist()}, Pillow {by_pillow[0].tolist()}, OpenCV {by_opencv[0].tolist()}")
assert by_pillow[0].tolist() == [0, 100, 255, 255, 255]
assert by_opencv[0].tolist() == [0, 0, 19, 117, 255]
END
