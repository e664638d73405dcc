#!/bin/sh
# MedPy 0.5.2, scipy 1.17.1, numpy 2.4.6, Python 3.11
# Guess: hd95() is the larger of the two directions' 95th percentiles of surface distances: 3.35 for a bar of which
#   the prediction has 4 columns too many.
# Behaviour: it is the percentile of the distances of both directions together: 2.0. The direction with errors is
#   diluted by the other.
# Seen on 27 November 2026: MedPy 2.0, larger of the directions 3.35
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check MedPy==0.5.2 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import numpy as np
from medpy.metric.binary import hd95
from scipy import ndimage

true, predicted = np.zeros((2, 60, 80), bool)
true[5:10, 5:45] = True
predicted[5:10, 5:49] = True


def directed(mask, other):
    surface, other_surface = (m & ~ndimage.binary_erosion(m) for m in (mask, other))
    return np.percentile(ndimage.distance_transform_edt(~other_surface)[surface], 95)


larger = max(directed(true, predicted), directed(predicted, true))
print(f"MedPy {hd95(predicted, true)}, larger of the directions {larger:.2f}")
assert hd95(predicted, true) == 2 and abs(larger - 3.35) < 1e-6
END
