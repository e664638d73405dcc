#!/bin/sh
# pysodmetrics 1.6.2, Python 3.11
# Guess: the mean absolute error of a map of the object with 10 % of its strength is that of 90 % on the object's
#   pixels, and a photo without an object, of which nothing is predicted, is perfect by every measure.
# Behaviour: each map is stretched to its own range first, so that a faint one has no error, and noise around 1 % on an
#   empty photo has a large one. The adaptive measures take what is at least twice the mean: of a map of zeros all
#   pixels, so that E is 0 on the empty photo, where MAE and S are perfect.
# Seen on 30 November 2026:
#   map with 25 of 255 on the object: MAE 0.000; map with 0 to 3 of 255 on the empty photo: MAE 0.500
#   zeros on the empty photo: MAE 0.000, S 1.000, adaptive E 0.000
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pysodmetrics==1.6.2 numpy==2.3.4 \
    scipy==1.16.3 scikit-image==0.25.2 scikit-learn==1.7.2 opencv-python-headless==4.14.0.94
cd "$folder"
venv/bin/python - <<'END'
import numpy as np
from py_sod_metrics import MAE, Emeasure, Smeasure

truth = np.zeros((64, 64), np.uint8)
truth[16:48, 16:48] = 255
empty = np.zeros_like(truth)


def results(kind, prediction, mask):
    measure = kind()
    measure.step(prediction, mask)
    return measure.get_results()


faint = results(MAE, np.where(truth > 0, 25, 0).astype(np.uint8), truth)["mae"]
noise = results(MAE, np.tile(np.arange(4, dtype=np.uint8), (64, 16)), empty)["mae"]
print(f"map with 25 of 255 on the object: MAE {faint:.3f}; ", end="")
print(f"map with 0 to 3 of 255 on the empty photo: MAE {noise:.3f}")
assert faint == 0 and abs(noise - 0.5) < 1e-6
error = results(MAE, empty, empty)["mae"]
structure = results(Smeasure, empty, empty)["sm"]
aligned = results(Emeasure, empty, empty)["em"]["adp"]
print(f"zeros on the empty photo: MAE {error:.3f}, S {structure:.3f}, adaptive E {aligned:.3f}")
assert (error, structure, aligned) == (0, 1, 0)
END
