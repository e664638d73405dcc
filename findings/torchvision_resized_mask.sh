#!/bin/sh
# torchvision 0.29.1, torch 2.14.1, numpy 2.4.6, Python 3.11
# Guess: v2.Resize of an image together with its Mask keeps both at one place.
# Behaviour: the image is resized around the centres of pixels, the mask takes the first pixel of each cell: from 256
#   to 64 pixels a mask lies 1.5 pixels of the original to the right of its object and below it, to 32 pixels 3.5.
# Seen on 27 November 2026: row of a disc's centre, to 64: image 120.00, mask 121.50; to 32: image 120.00, mask 123.50
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torchvision==0.29.1 torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

rows, columns = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
disc = (((rows - 120) ** 2 + (columns - 130) ** 2) < 60**2).to(torch.uint8)
image = tv_tensors.Image(255 * disc.expand(3, -1, -1))
mask = tv_tensors.Mask(disc[None])


def centre(values, factor):
    """Return the row of the centre of mass, in pixels of the original."""
    weight = values.sum(1, dtype=torch.float32)
    position = (torch.arange(len(weight)) + 0.5) * factor - 0.5
    return (weight @ position / weight.sum()).item()


for side in (64, 32):
    small_image, small_mask = v2.Resize((side, side))(image, mask)
    found = [centre(small[0], 256 / side) for small in (small_image, small_mask)]
    print(f"256 to {side}: row of the centre, image {found[0]:.2f}, mask {found[1]:.2f}")
    shift = (256 / side - 1) / 2
    assert abs(found[0] - 120) < 0.3 and abs(found[1] - 120 - shift) < 0.5
END
