#!/bin/sh
# scikit-image 0.26.0, numpy 2.4.6, Python 3.11
# Guess: skeletonize() of a mirrored mask is the mirrored skeleton, so that clDice does not depend on the side from
#   which a picture is seen.
# Behaviour: thinning begins at one side: of a block of 3 x 2 pixels another pixel is left, and clDice with a block
#   beside it is 0.67 or 0.
# Seen on 27 November 2026: skeleton [[7, 5]], of the mirrored mask, mirrored back, [[7, 6]]
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scikit-image==0.26.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import numpy as np
from skimage.morphology import skeletonize

block = np.zeros((12, 15), bool)
block[6:9, 5:7] = True
skeleton = np.argwhere(skeletonize(block)).tolist()
mirrored = np.argwhere(skeletonize(block[:, ::-1])[:, ::-1]).tolist()
print(f"skeleton {skeleton}, of the mirrored mask, mirrored back, {mirrored}")
assert (skeleton, mirrored) == ([[7, 5]], [[7, 6]])
END
