#!/bin/sh
# torch 2.13.0 (and 2.14.1), numpy 2.4.6, Python 3.11
# Guess: antialias=True of F.interpolate changes nothing where a map is enlarged: there is nothing to be smoothed.
# Behaviour: that holds for mode="bilinear". For "bicubic" it takes another kernel, with the parameter -0.5 (Pillow's)
#   for -0.75. Position embeddings of a transformer, enlarged with it (timm) and without it (transformers), differ.
# Seen on 27 November 2026: largest difference, 7 x 7 to 20 x 20, values in 0..1: bilinear 0.00, bicubic 0.06
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import torch
from torch.nn import functional as F

torch.manual_seed(0)
grid = torch.rand(1, 1, 7, 7)
largest = {}
for mode in ("bilinear", "bicubic"):
    plain, smooth = (F.interpolate(grid, (20, 20), mode=mode, antialias=antialias) for antialias in (False, True))
    largest[mode] = (plain - smooth).abs().max().item()
    print(f"{mode}: {largest[mode]:.2f}")
assert largest["bilinear"] < 1e-5 and largest["bicubic"] > 0.01
END
