#!/bin/sh
# MedPy 0.5.2, scipy 1.17.1, numpy 2.4.6, Python 3.11
# Guess: of two empty masks the Dice coefficient dc() and the Jaccard coefficient jc(), one of which follows from the
#   other, are alike: both 1, both 0 or both undefined.
# Behaviour: jc() is 1 and dc() NaN. Both await Python's error of a division by zero; dc() divides numbers of NumPy,
#   which has none. A mean over photos of which one shows nothing is NaN.
# Seen on 27 November 2026: dc nan, jc 1.0
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check MedPy==0.5.2 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import math

import numpy as np
from medpy.metric.binary import dc, jc

empty = np.zeros((20, 20), bool)
dice, jaccard = dc(empty, empty), jc(empty, empty)
print(f"dc {dice}, jc {jaccard}")
assert math.isnan(dice) and jaccard == 1
END
