#!/bin/sh
# opencv-python-headless 5.0.0.93, numpy 2.4.6, Python 3.11
# Guess: fillPoly() of two outlines that overlap paints what either covers, as two calls do: 206 pixels.
# Behaviour: outlines of one call are filled by the even-odd rule together: what both cover is background, but for
#   their lines.
# Seen on 27 November 2026: one call 190 pixels, two calls 206
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check opencv-python-headless==5.0.0.93 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import cv2
import numpy as np

first = np.array([[10, 10], [20, 10], [20, 20], [10, 20]], np.int32)
outlines = [first, first + 5]
together = cv2.fillPoly(np.zeros((40, 40), np.uint8), outlines, 1)
apart = np.zeros((40, 40), np.uint8)
for outline in outlines:
    cv2.fillPoly(apart, [outline], 1)
print(f"one call {together.sum()} pixels, two calls {apart.sum()}")
assert (together.sum(), apart.sum()) == (190, 206)
assert not together[16:20, 16:20].any()
END
