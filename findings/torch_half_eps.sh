#!/bin/sh
# torch 2.13.0 (and 2.14.1), numpy 2.4.6, Python 3.11, on a CPU
# Guess: F.normalize() and F.cosine_similarity() of a zero vector, such as the prototype of an empty mask, are 0 in
#   every precision: that is what their eps is for.
# Behaviour: their eps, 1e-12 and 1e-8, is 0 in float16, and the result is NaN, also under autocast on a CPU. bfloat16
#   holds both, and has 0.
# Seen on 27 November 2026: float32 0 and 0, bfloat16 0 and 0, float16 NaN and NaN, float16 with eps=1e-7 0 and 0
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import torch
from torch.nn import functional as F

zero = torch.zeros(1, 8)
for kind in (torch.float32, torch.bfloat16, torch.float16):
    vector = zero.to(kind)
    normalised = F.normalize(vector, dim=1)
    cosine = F.cosine_similarity(vector, vector, dim=1)
    print(f"{kind}: normalised {normalised[0, 0].item()}, cosine {cosine.item()}")
    is_lost = kind == torch.float16
    assert bool(normalised.isnan().all()) == is_lost and bool(cosine.isnan().all()) == is_lost
with torch.autocast("cpu", torch.float16):
    assert F.normalize(zero.half(), dim=1).isnan().all()
assert (F.normalize(zero.half(), dim=1, eps=1e-7) == 0).all()
END
