#!/bin/sh
# supervision 0.31.2, Python 3.11
# Guess: DetectionDataset.as_yolo writes an outline for each object with a mask, or leaves thin ones out with a warning,
#   as as_coco does.
# Behaviour: among the outlines, an object one pixel high has a row of five numbers, the box of another kind of file,
#   whose height is 0. Boxes are a pixel short in each direction, in COCO too: [5, 75, 54, 0] of 55 x 1 pixels.
# Seen on 30 November 2026, of a square and a line on a photo of 100 x 80 pixels:
#   YOLO: 9 numbers; 1 0.32000 0.93750 0.54000 0.00000
#   COCO: [10, 10, 19, 19], area 400, 1 outline; [5, 75, 54, 0], area 55, 0 outlines
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check supervision==0.31.2 numpy==2.4.6 \
    opencv-python-headless==5.0.0.93 pillow==13.0.0
cd "$folder"
venv/bin/python - 2>warnings.txt <<'END'
import json
import warnings
from pathlib import Path

import numpy as np
import supervision
from PIL import Image

masks = np.zeros((2, 80, 100), bool)
masks[0, 10:30, 10:30] = True
masks[1, 75, 5:60] = True
Image.new("RGB", (100, 80)).save("a.png")
objects = supervision.Detections(xyxy=supervision.mask_to_xyxy(masks), mask=masks, class_id=np.arange(2))
dataset = supervision.DetectionDataset(classes=["square", "line"], images=["a.png"], annotations={"a.png": objects})
with warnings.catch_warnings():
    warnings.simplefilter("error", UserWarning)
    dataset.as_yolo(annotations_directory_path="labels", data_yaml_path="data.yaml")
square, line = Path("labels/a.txt").read_text().splitlines()
print(f"YOLO: {len(square.split())} numbers; {line}")
assert len(square.split()) == 9 and line == "1 0.32000 0.93750 0.54000 0.00000"
dataset.as_coco(annotations_path="coco.json")
found = []
for mark in json.loads(Path("coco.json").read_text())["annotations"]:
    found.append((mark["bbox"], mark["area"], len(mark["segmentation"])))
print("COCO: " + "; ".join(f"{box}, area {area:g}, {outlines} outlines" for box, area, outlines in found))
assert found == [([10, 10, 19, 19], 400, 1), ([5, 75, 54, 0], 55, 0)]
END
