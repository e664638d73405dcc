#!/bin/sh
# transformers 5.24.0, pillow 13.0.0, numpy 2.4.6, Python 3.11
# Guess: the image processors of semantic segmentation resize a label map by nearest neighbours, so that its classes
#   stay 0, 3, 10 and 255 (unknown).
# Behaviour: those of BEiT and DPT resize it as the photo, by bicubic interpolation, and round: classes appear along
#   borders that the map does not have. That of SegFormer keeps the four.
# Seen on 27 November 2026: BEiT and DPT [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 204, 255], SegFormer [0, 3, 10, 255]
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.24.0 pillow==13.0.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import numpy as np
import transformers
from PIL import Image

classes = np.zeros((256, 256), np.uint8)
classes[60:140, 90:170] = 10
classes[150:200, 20:90] = 3
classes[:20] = 255
photo = Image.new("RGB", (256, 256))
seen = {}
for name in ("Beit", "DPT", "Segformer"):
    processor = getattr(transformers, f"{name}ImageProcessorPil")(size={"height": 100, "width": 100})
    inputs = processor(images=photo, segmentation_maps=Image.fromarray(classes), return_tensors="np")
    seen[name] = np.unique(np.asarray(inputs["labels"][0])).tolist()
    print(f"{name}: {seen[name]}")
known = [0, 3, 10, 255]
assert seen["Segformer"] == known
assert all(set(seen[name]) > set(known) for name in ("Beit", "DPT"))
END
