#!/bin/sh
# datumaro 1.13.12, Python 3.11
# Guess: of a VOC mask with a person and a border of 255, as VOC's own masks have it, a COCO file gets one object.
# Behaviour: the reader adds a 22nd class, ignored, and the border is an object of it, in COCO, CVAT and Cityscapes files
#   too. Objects of masks are written as crowds of run lengths. Masks written again are RGB, without indices.
# Seen on 30 November 2026: objects [('person', 400, 1), ('ignored', 40, 1)], of 22 classes; written again as RGB
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check datumaro==1.13.12 numpy==2.4.6 \
    opencv-python-headless==4.14.0.94 pillow==12.3.0
cd "$folder"
venv/bin/python - <<'END'
import json
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

warnings.simplefilter("ignore")
from datumaro.components.dataset import Dataset

BITS = 8
colours = []
for index in range(256):  # VOC's palette: bits of the index spread over red, green and blue, the lowest on top
    for channel in range(3):
        colours.append(sum((index >> 3 * bit + channel & 1) << BITS - 1 - bit for bit in range(BITS)))

mask = np.zeros((80, 100), np.uint8)
mask[10:30, 10:30] = 15
mask[10:30, 30:32] = 255
objects = np.where(mask == 15, 1, mask).astype(np.uint8)
for name, values in {"SegmentationClass": mask, "SegmentationObject": objects}.items():
    image = Image.fromarray(values).convert("P")
    image.putpalette(colours)
    Path("voc", name).mkdir(parents=True)
    image.save(f"voc/{name}/a.png")
Path("voc/JPEGImages").mkdir()
Image.new("RGB", (100, 80)).save("voc/JPEGImages/a.jpg")
Path("voc/ImageSets/Segmentation").mkdir(parents=True)
Path("voc/ImageSets/Segmentation/train.txt").write_text("a\n")

dataset = Dataset.import_from("voc", "voc_segmentation")
dataset.export("coco", "coco_instances")
dataset.export("again", "voc_segmentation")
content = json.loads(Path("coco/annotations/instances_train.json").read_text())
names = {entry["id"]: entry["name"] for entry in content["categories"]}
found = [(names[mark["category_id"]], int(mark["area"]), mark["iscrowd"]) for mark in content["annotations"]]
mode = Image.open("again/SegmentationClass/a.png").mode
print(f"objects {found}, of {len(names)} classes; written again as {mode}")
assert found == [("person", 400, 1), ("ignored", 40, 1)]
assert (len(names), mode) == (22, "RGB")
END
