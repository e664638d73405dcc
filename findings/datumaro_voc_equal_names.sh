#!/usr/bin/env bash
# Datumaro exports photos of one name in two subsets as VOC's data set with one of them. Exit code 1: it does no longer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datumaro==1.13.12 numpy==2.4.6 pillow==12.3.0 2>"$folder/pip.log" || { cat "$folder/pip.log"; exit 2; }
cd "$folder"
cat >check.py <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import datumaro as dm
import numpy as np

GUESS = "two photos p0, one of train and one of val, are two in every export, or the export is refused"
items = []
for seed, part in enumerate(("train", "val")):
    photo = np.random.default_rng(seed).integers(0, 255, (72, 96, 3)).astype(np.uint8)
    painted = np.zeros((72, 96), bool)
    painted[20 : 60 - 10 * seed, 52:88] = True
    mask = dm.Mask(painted, label=0, id=1, group=1)
    items.append(dm.DatasetItem("p0", subset=part, media=dm.Image.from_numpy(photo), annotations=[mask]))
data = dm.Dataset.from_iterable(items, categories=["cat"])
photos = {}
for form in ("voc_segmentation", "coco_instances"):
    data.export(form, form, save_media=True)
    photos[form] = len([*Path(form).rglob("*.jpg")])
again = dm.Dataset.import_from("voc_segmentation", "voc_segmentation")
areas = sorted(int(mark.image.sum()) for item in again for mark in item.annotations)
print(f"datumaro {version('datumaro')}, numpy {version('numpy')}, pillow {version('pillow')}")
print(f"guess: {GUESS}")
print(f"seen: photos written {photos}; objects of 1440 and 1080 pixels come back from VOC's form as {areas}")
sys.exit(photos != {"voc_segmentation": 1, "coco_instances": 2} or len(set(areas)) != 1)
PYTHON
venv/bin/python check.py
