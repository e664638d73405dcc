#!/bin/sh
# transformers 5.24.0, numpy 2.4.6, Python 3.11
# Guess: SegGptImageProcessor takes the mask of the example ("prompt_masks") as others of the library do: a map in which
#   1 is the object.
# Behaviour: without num_labels the map is a grey image, so the object of ones is 1/255 of white, and the network sees a
#   black example. With num_labels=1 the object is white. No warning tells it.
# Seen on 30 November 2026, values of the prompt before normalisation:
#   default: [0.0, 0.0039]; num_labels=1: [0.0, 1.0]
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.24.0 numpy==2.4.6 pillow==13.0.0
cd "$folder"
venv/bin/python - 2>warnings.txt <<'END'
import numpy as np
from transformers.models.seggpt.image_processing_pil_seggpt import SegGptImageProcessorPil

processor = SegGptImageProcessorPil()
mask = np.zeros((300, 400), np.uint8)
mask[100:150, 100:200] = 1


def values(**options):
    prompt = processor(images=None, prompt_masks=mask, return_tensors="np", do_normalize=False, **options)
    return [round(float(value), 4) for value in np.unique(prompt["prompt_masks"])]


default, classes = values(), values(num_labels=1)
print(f"default: {default}; num_labels=1: {classes}")
assert default == [0.0, 0.0039] and classes == [0.0, 1.0]
END
if grep -i mask warnings.txt; then exit 1; fi
