#!/bin/sh
# pycocotools 2.0.11, numpy 2.4.6, Python 3.11
# Guess: encode() takes every value above 0 as the object, so a square of 10 x 10 with a soft rim of 128 has 100
#   pixels.
# Behaviour: it counts changes of value down the columns: 0 to 128 begins a run, 128 to 255 ends it; the inside is
#   lost, silently.
# Seen on 27 November 2026: 100 pixels above 0, 36 after encoding
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import numpy as np
from pycocotools import mask

square = np.zeros((20, 20), np.uint8)
square[5:15, 5:15] = 128
square[6:14, 6:14] = 255
decoded = mask.decode(mask.encode(np.asfortranarray(square)))
print(f"{(square > 0).sum()} pixels above 0, {decoded.sum()} after encoding")
assert decoded.sum() == 36 and not decoded[6:14, 6:14].any()
END
