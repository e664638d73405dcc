#!/bin/sh
# transformers 5.24.0, numpy 2.4.6, Python 3.11
# Guess: with do_reduce_labels=True, which makes background unknown (255), the bars that MobileViT's processor adds to a
#   photo are unknown in its labels, too.
# Behaviour: labels are counted down first and padded with 0 after that, and 0 is then the first class. As the processor
#   by default resizes the shorter side to 224 and cuts 256 x 256, every photo has such bars: 12.5 % of the labels.
# Seen on 30 November 2026, of a photo of 400 x 300 that shows nothing but background:
#   labels of 256 x 256: 57344 pixels unknown, 8192 pixels of class 0, all of them in the bars
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.24.0 numpy==2.4.6 pillow==13.0.0
cd "$folder"
venv/bin/python - 2>warnings.txt <<'END'
import numpy as np
from transformers.models.mobilevit.image_processing_pil_mobilevit import MobileViTImageProcessorPil

photo = np.full((300, 400, 3), 200, np.uint8)
labels = np.zeros((300, 400), np.uint8)
processor = MobileViTImageProcessorPil(do_reduce_labels=True)
batch = processor(images=[photo], segmentation_maps=[labels], return_tensors="np")
found = batch["labels"][0]
bars = (batch["pixel_values"][0] == 0).all(0)
unknown, first = (int((found == value).sum()) for value in (255, 0))
print(f"labels of {found.shape[1]} x {found.shape[0]}: {unknown} pixels unknown, {first} pixels of class 0, ", end="")
print("all of them in the bars" if ((found == 0) == bars).all() else "elsewhere, too")
assert found.shape == (256, 256) and (unknown, first) == (57344, 8192) and ((found == 0) == bars).all()
END
if grep -i "label\|reduce\|pad" warnings.txt; then exit 1; fi
