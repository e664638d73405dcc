#!/bin/sh
# transformers 5.24.0, numpy 2.4.6, Python 3.11
# Guess: in a batch of photos of two sizes, the processors of MaskFormer and Mask2Former pad the masks of objects, the
#   targets of a sigmoid loss, with 0, or mark the padding so that the loss leaves it out.
# Behaviour: with ignore_index=255 the padding of these masks of 0 and 1 is 255.0. Unknown pixels of the photo itself
#   (255 in its label map) are 0 in all masks, as sure as background: the index is not ignored in either place.
# Seen on 30 November 2026, of a photo of 64 x 64 in a batch with one of 64 x 96, with 100 unknown pixels:
#   values [0.0, 1.0, 255.0], of which 255 on 2048 pixels, all of them padding; unknown pixels [0.0]
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.24.0 numpy==2.4.6 pillow==13.0.0
cd "$folder"
venv/bin/python - 2>warnings.txt <<'END'
import numpy as np
from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil
from transformers.models.maskformer.image_processing_pil_maskformer import MaskFormerImageProcessorPil

photos = [np.zeros((64, 64, 3), np.uint8), np.zeros((64, 96, 3), np.uint8)]
labels = [np.zeros((64, 64), np.uint8), np.zeros((64, 96), np.uint8)]
labels[0][10:30, 10:30] = 1
labels[0][40:50, 40:50] = 255
labels[1][:20] = 1
for kind in (MaskFormerImageProcessorPil, Mask2FormerImageProcessorPil):
    processor = kind(do_resize=False, ignore_index=255)
    batch = processor(images=photos, segmentation_maps=labels, return_tensors="np")
    masks, inside = batch["mask_labels"][0], batch["pixel_mask"][0]
    assert batch["class_labels"][0].tolist() == [0, 1] and masks.shape == (2, 64, 96)
    values = np.unique(masks).tolist()
    padding = (masks == 255).all(0)
    unknown = np.unique(masks[:, 40:50, 40:50]).tolist()
    print(f"values {values}, of which 255 on {padding.sum()} pixels; unknown pixels {unknown}")
    assert values == [0.0, 1.0, 255.0] and (padding == (inside == 0)).all() and padding.sum() == 2048
    assert unknown == [0.0] and inside[40:50, 40:50].all()
END
if grep -i "mask\|pad\|ignore" warnings.txt; then exit 1; fi
