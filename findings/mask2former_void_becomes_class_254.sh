#!/bin/sh
# transformers 5.24.0, numpy 2.4.6, Python 3.11
# Guess: of a label map with background (0), an object (1) and unknown pixels (255), do_reduce_labels=True with
#   ignore_index=255 leaves the object as class 0, and unknown pixels unknown, in every processor.
# Behaviour: those of MaskFormer and Mask2Former count 255 down as well: unknown pixels become an object of class 254,
#   with a mask of its own. SegFormer's keeps them unknown, but writes 255 over the background of the caller's own
#   array. No warning tells either.
# Seen on 30 November 2026:
#   MaskFormer, Mask2Former: classes [0, 254] with [400, 100] pixels; the caller's map [0, 1, 255]
#   SegFormer: labels [0, 255]; the caller's map [1, 255]
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
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil

photo = np.zeros((64, 64, 3), np.uint8)
labels = np.zeros((64, 64), np.uint8)
labels[10:30, 10:30] = 1
labels[40:50, 40:50] = 255


def prepared(kind, **options):
    processor = kind(do_resize=False, do_reduce_labels=True, **options)
    return processor(images=[photo], segmentation_maps=[labels], return_tensors="np")


for kind in (MaskFormerImageProcessorPil, Mask2FormerImageProcessorPil):
    batch = prepared(kind, ignore_index=255)
    classes = batch["class_labels"][0].tolist()
    pixels = [int(mask.sum()) for mask in batch["mask_labels"][0]]
    caller = np.unique(labels).tolist()
    print(f"{kind.__name__}: classes {classes} with {pixels} pixels; the caller's map {caller}")
    assert (classes, pixels, caller) == ([0, 254], [400, 100], [0, 1, 255])
values = np.unique(prepared(SegformerImageProcessorPil)["labels"]).tolist()
caller = np.unique(labels).tolist()
print(f"SegFormer: labels {values}; the caller's map {caller}")
assert (values, caller) == ([0, 255], [1, 255])
END
if grep -i "label\|reduce\|ignore" warnings.txt; then exit 1; fi
