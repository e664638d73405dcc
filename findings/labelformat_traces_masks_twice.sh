#!/bin/sh
# labelformat 0.1.17, pycocotools 2.0.11, OpenCV 5.0.0, Python 3.11
# Guess: photos with masks ("maskpair"), converted to COCO, have the masks' pixels, or a border less.
# Behaviour: each outline goes around its object twice. Programs that fill by the even-odd rule, as pycocotools and
#   OpenCV do, find an object without a pixel. With --segmentation-type rle every object is right, but a crowd
#   (iscrowd: true), which COCO's evaluation ignores.
# Seen on 30 November 2026, for a mask with a rectangle of 30 x 20 pixels:
#   polygon: 192 points, of which 96 differ; pycocotools 0 pixels; iscrowd False
#   rle: 600 pixels; iscrowd True
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check labelformat==0.1.17 \
    pycocotools==2.0.11 opencv-python-headless==5.0.0.93
cd "$folder"
venv/bin/python - <<'END'
import json
import subprocess
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as rle

height, width = 80, 100
mask = np.zeros((height, width), np.uint8)
mask[20:40, 30:60] = 255
Path("images").mkdir()
Path("masks").mkdir()
Image.fromarray(np.zeros((height, width, 3), np.uint8)).save("images/a.jpg")
Image.fromarray(mask).save("masks/a.png")


def converted(kind):
    command = ["venv/bin/labelformat", "convert", "--task", "instance-segmentation", "--input-format", "maskpair"]
    command += ["--image-glob", "images/*.jpg", "--mask-glob", "masks/*.png", "--category-names", "cat"]
    command += ["--segmentation-type", kind, "--output-format", "coco", "--output-file", f"{kind}.json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (mark,) = json.loads(Path(f"{kind}.json").read_text())["annotations"]
    return mark


mark = converted("polygon")
(outline,) = mark["segmentation"]
points = np.array(outline).reshape(-1, 2)
pixels = int(rle.area(rle.frPyObjects([outline], height, width))[0])
drawn = cv2.fillPoly(np.zeros((height, width), np.uint8), [points.astype(np.int32)], 1)
different = len(np.unique(points, axis=0))
print(f"polygon: {len(points)} points, of which {different} differ; pycocotools {pixels} pixels; iscrowd {mark['iscrowd']}")
assert (len(points), different, pixels) == (192, 96, 0) and mark["iscrowd"] is False
assert drawn[25:35, 35:55].sum() == 0  # OpenCV: nothing inside
mark = converted("rle")
pixels = int(rle.area(rle.frPyObjects(mark["segmentation"], height, width)))
print(f"rle: {pixels} pixels; iscrowd {mark['iscrowd']}")
assert pixels == 600 and mark["iscrowd"] is True
END
