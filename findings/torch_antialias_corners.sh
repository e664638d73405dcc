#!/bin/sh
# torch 2.13.0 (and 2.14.1), numpy 2.4.6, Python 3.11
# Guess: F.interpolate(align_corners=True) keeps the corners where they are, with antialias=True, too.
# Behaviour: antialias takes the scale of aligned corners, but begins at the edge of the first pixel: from 473 to 60
#   the result lies 3.5 pixels of the input too far, from 60 to 473 half a pixel too near.
# Seen on 27 November 2026: place in the middle, 473 to 60: 240.0, antialias 243.5; 60 to 473: 29.50, antialias 29.06
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import torch
from torch.nn import functional as F


def resized(old, new, antialias):
    """Return a ramp, whose values are its positions, at a new length."""
    ramp = torch.arange(old, dtype=torch.float32).view(1, 1, old, 1).expand(-1, -1, -1, 2)
    return F.interpolate(ramp, (new, 2), mode="bilinear", align_corners=True, antialias=antialias)[0, 0, :, 0]


for old, new, shift in ((473, 60, 3.5), (60, 473, -0.4375)):
    plain, smooth = (resized(old, new, antialias) for antialias in (False, True))
    middle = new // 2
    print(f"{old} to {new}: position {middle} is {plain[middle]:.2f}, with antialias {smooth[middle]:.2f}")
    assert torch.allclose(plain, torch.linspace(0, old - 1, new), atol=1e-3)
    assert abs(smooth[middle] - plain[middle] - shift) < 1e-3
END
