#!/bin/sh
# transformers 5.24.0, numpy 2.4.6, Python 3.11
# Guess: image processors resize a label map (segmentation_maps) to the nearest pixel, as SegFormer's does, since ids
#   have no mean.
# Behaviour: with their defaults, those of BEiT and DPT resize it by the photo's bicubic filter. Along each border lie
#   classes that nobody drew; along a border of 255 they are ids of many classes. No warning tells it.
# Seen on 30 November 2026, of a map with 0, 1 and 5, and of one with 0 and 255 (unknown):
#   BEiT [0, 1, 2, 5] and [0, 83, 255]; DPT [0, 1, 3, 5] and [0, 18, 237, 255]; SegFormer [0, 1, 5] and [0, 255]
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.24.0 numpy==2.4.6 pillow==13.0.0
cd "$folder"
venv/bin/python - 2>warnings.txt <<'END'
import numpy as np
from transformers.models.beit.image_processing_pil_beit import BeitImageProcessorPil
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil

photo = np.zeros((300, 400, 3), np.uint8)
objects = np.zeros((300, 400), np.uint8)
objects[50:150, 60:200] = 1
objects[100:220, 150:300] = 5
unknown = np.zeros((300, 400), np.uint8)
unknown[:50] = 255


def classes(kind, labels):
    batch = kind()(images=[photo], segmentation_maps=[labels], return_tensors="np")
    return np.unique(batch["labels"]).tolist()


expected = {
    BeitImageProcessorPil: ([0, 1, 2, 5], [0, 83, 255]),
    DPTImageProcessorPil: ([0, 1, 3, 5], [0, 18, 237, 255]),
    SegformerImageProcessorPil: ([0, 1, 5], [0, 255]),
}
for kind, stated in expected.items():
    found = classes(kind, objects), classes(kind, unknown)
    print(f"{kind.__name__}: {found[0]} and {found[1]}")
    assert found == stated
END
if grep -i "label\|segmentation\|resiz\|resampl" warnings.txt; then exit 1; fi
