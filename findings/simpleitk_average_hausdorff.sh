#!/bin/sh
# SimpleITK 2.5.7, numpy 2.4.6, Python 3.11
# Guess: GetAverageHausdorffDistance() is the average symmetric surface distance (ASSD): 1 for a square of 20 moved by
#   2.
# Behaviour: it averages over all pixels of the masks, of which those within the other mask have 0: 0.15 (20 x 20
#   pixels, of which 40 are 1 or 2 away).
# Seen on 27 November 2026: Hausdorff 2.0, average 0.15
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check SimpleITK==2.5.7 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import numpy as np
import SimpleITK

first, second = np.zeros((2, 60, 80), np.uint8)
first[10:30, 10:30] = 1
second[10:30, 12:32] = 1
distance = SimpleITK.HausdorffDistanceImageFilter()
distance.Execute(*map(SimpleITK.GetImageFromArray, (first, second)))
average = distance.GetAverageHausdorffDistance()
print(f"Hausdorff {distance.GetHausdorffDistance()}, average {average:.2f}")
assert distance.GetHausdorffDistance() == 2 and abs(average - (20 * 1 + 20 * 2) / 400) < 1e-6
END
