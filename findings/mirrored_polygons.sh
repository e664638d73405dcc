#!/bin/sh
# pycocotools 2.0.11, opencv-python-headless 5.0.0.93, numpy 2.4.6, Python 3.11
# Guess: the mask of a mirrored polygon is the mirrored mask, so that an augmentation may mirror either.
# Behaviour: pycocotools rounds both ends of a column in one direction: a triangle of 190 pixels has 210 upside down,
#   and 190 from left to right. The masks of OpenCV's fillPoly differ from left to right.
# Seen on 27 November 2026: of 200 polygons, upside down pycocotools 198 and OpenCV 0 differ, left to right 19 and 169
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11 opencv-python-headless==5.0.0.93 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import cv2
import numpy as np
from pycocotools import mask

SIDE = 64


def by_pycocotools(polygon):
    (runs,) = mask.frPyObjects([polygon.ravel().astype(float).tolist()], SIDE, SIDE)
    return mask.decode(runs)


def by_opencv(polygon):
    return cv2.fillPoly(np.zeros((SIDE + 1, SIDE + 1), np.uint8), [polygon.astype(np.int32)], 1)


def mirrored(polygon, axis):
    other = polygon.copy()
    other[:, axis] = SIDE - other[:, axis]
    return other


triangle = np.array([[10, 10], [30, 10], [10, 30]])
areas = [int(by_pycocotools(p).sum()) for p in (triangle, mirrored(triangle, 1), mirrored(triangle, 0))]
print(f"pycocotools: a triangle has {areas[0]} pixels, upside down {areas[1]}, left to right {areas[2]}")
random = np.random.default_rng(0)
unlike = {"pycocotools": [0, 0], "OpenCV": [0, 0]}  # left to right, upside down
for _ in range(200):
    angles = np.sort(random.uniform(0, 2 * np.pi, random.integers(3, 8)))
    radii = random.uniform(8, 25, len(angles))
    polygon = np.round(SIDE / 2 + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)).astype(int)
    for name, paint in (("pycocotools", by_pycocotools), ("OpenCV", by_opencv)):
        for axis in (0, 1):
            differs = np.flip(paint(mirrored(polygon, axis)), 1 - axis) != paint(polygon)
            unlike[name][axis] += bool(differs.any())
for name, (sideways, upside_down) in unlike.items():
    print(f"{name}: of 200 polygons {upside_down} differ upside down, {sideways} left to right")
assert areas == [190, 210, 190]
assert unlike["pycocotools"][1] > 150 and unlike["OpenCV"][0] > 100
END
