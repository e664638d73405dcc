#!/bin/sh
# surface-distance 0.1, numpy 2.4.6, scipy 1.17.1, Python 3.11
# Guess: two masks of one pixel each, three columns apart, have the average surface distance 3, as in MedPy.
# Behaviour: surfaces run through the corners between pixels; the two surfaces are 2 to 3 apart, and the average is
#   2.5. Only the largest distance is 3.
# Seen on 27 November 2026: average 2.5 and 2.5, largest 3.0
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check surface-distance==0.1 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - <<'END'
import numpy as np
import surface_distance

first, second = np.zeros((2, 20, 20), bool)
first[10, 5] = second[10, 8] = True
distances = surface_distance.compute_surface_distances(first, second, (1, 1))
averages = surface_distance.compute_average_surface_distance(distances)
largest = surface_distance.compute_robust_hausdorff(distances, 100)
print(f"average {averages[0]:.1f} and {averages[1]:.1f}, largest {largest:.1f}")
assert np.allclose(averages, 2.5) and largest == 3
END
