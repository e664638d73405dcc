#!/bin/sh
# scalabel 0.3.1, pydantic 1.10.27, matplotlib 3.9.4, numpy 1.26.4, pycocotools 2.0.11, Python 3.11
# Guess: outlines of a photo, converted to run lengths (frame_to_rles, as "to_rle" does), stay those of their objects,
#   however many there are.
# Behaviour: objects are drawn in colours that hold their number, and the colours are counted by 255 but read by 256.
#   The 255th object, drawn black, has no pixel; the 256th has none, and each later one has those of the object before
#   it. Classes and other properties stay where they were.
# Seen on 30 November 2026, for 300 squares of 16 pixels without overlap:
#   objects 1 to 254: their own pixels; 255 and 256: none; 257 to 300: those of the object before
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
UV_CACHE_DIR="$folder/cache" "$folder/venv/bin/uv" pip install --quiet --python "$folder/venv/bin/python" \
    scalabel==0.3.1 pydantic==1.10.27 matplotlib==3.9.4 numpy==1.26.4 pycocotools==2.0.11 pandas==2.3.3
cd "$folder"
MPLBACKEND=agg venv/bin/python - <<'END'
import numpy as np
from scalabel.label.transforms import frame_to_rles, rle_to_mask
from scalabel.label.typing import ImageSize, Poly2D

height, width, count = 80, 200, 300
corners = [(number % 40 * 5, number // 40 * 5) for number in range(count)]
outlines = []
for left, top in corners:
    points = [(left, top), (left + 4, top), (left + 4, top + 4), (left, top + 4)]
    outlines.append([Poly2D(vertices=points, types="LLLL", closed=True)])

shown = []  # for each object, the object whose pixels it has
for rle in frame_to_rles(ImageSize(height=height, width=width), outlines):
    mask = rle_to_mask(rle).astype(bool)
    owner = None
    if mask.any():
        rows, columns = np.nonzero(mask)
        owner = corners.index((columns.min(), rows.min())) + 1
        assert mask.sum() == 16
    shown.append(owner)
print(f"objects 1 to 4: pixels of {shown[:4]}; 254 to 259: of {shown[253:259]}; 300: of {shown[299]}")
assert shown[:254] == list(range(1, 255))
assert shown[254:256] == [None, None]
assert shown[256:] == list(range(256, 300))
END
