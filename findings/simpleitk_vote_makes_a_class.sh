#!/bin/sh
# SimpleITK 2.5.7, Python 3.11
# Guess: where annotators disagree, the majority of their masks (LabelVoting) is background or one of their classes.
# Behaviour: a tie becomes a class that nobody drew, the largest id plus one, which looks like a further class. Three
#   masks of several classes have ties, too.
# Seen on 30 November 2026:
#   two masks of 0 and 1: where they differ 2; three masks of cat (1) and dog (2): background, cat and dog give 3
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check SimpleITK==2.5.7 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'END'
import numpy as np
import SimpleITK


def voted(*rows):
    masks = [SimpleITK.GetImageFromArray(np.array([row], np.uint8)) for row in rows]
    return SimpleITK.GetArrayFromImage(SimpleITK.LabelVoting(masks))[0].tolist()


two = voted([0, 0, 1, 1, 1], [0, 1, 0, 1, 1])
three = voted([0, 1, 2, 0, 1], [0, 1, 2, 1, 1], [0, 1, 2, 2, 2])
print(f"two: {two}; three: {three}")
assert two == [0, 2, 2, 1, 1]
assert three == [0, 1, 2, 3, 1]
END
