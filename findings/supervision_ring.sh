#!/bin/sh
# supervision 0.31.2, numpy 2.4.6, opencv-python-headless 5.0.0.93, Python 3.11
# Guess: mask_to_polygons() and polygon_to_mask() keep a ring, by an outline and a hole, or say that they cannot.
# Behaviour: the hole is one polygon more of the list, not marked as a hole; painted one by one, as annotations are,
#   the ring is a full square.
# Seen on 27 November 2026: 300 pixels, 2 polygons, painted 400
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check supervision==0.31.2 numpy==2.4.6 opencv-python-headless==5.0.0.93
"$folder/venv/bin/python" - <<'END'
import numpy as np
import supervision

ring = np.zeros((30, 30), bool)
ring[5:25, 5:25] = True
ring[10:20, 10:20] = False
polygons = supervision.mask_to_polygons(ring)
painted = np.zeros_like(ring)
for polygon in polygons:
    painted |= supervision.polygon_to_mask(polygon, (30, 30)).astype(bool)
print(f"{ring.sum()} pixels, {len(polygons)} polygons, painted {painted.sum()}")
assert (ring.sum(), len(polygons), painted.sum()) == (300, 2, 400)
END
