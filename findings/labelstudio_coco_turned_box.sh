#!/bin/sh
# label-studio-sdk 2.1.2, Python 3.11
# Guess: the COCO export of a box that is turned by 30 degrees holds the upright box around its corners, which the
#   YOLO OBB export has, 39.6 x 28.7 pixels.
# Behaviour: it turns the box in percent of width and height; on a photo that is not square that is another shape. The
#   YOLO export leaves out the turn.
# Seen on 27 November 2026: corners span [55. 20. 39.64 28.66], COCO [50. 20. 44.64 18.66], YOLO [60. 20. 40. 10.]
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check label-studio-sdk==2.1.2
"$folder/venv/bin/python" - <<'END'
import numpy as np
from label_studio_sdk.converter.converter import Converter
from label_studio_sdk.converter.utils import convert_annotation_to_yolo, convert_annotation_to_yolo_obb

size = np.array([200, 100])  # of the photo
box = {"x": 30, "y": 20, "width": 20, "height": 10, "rotation": 30, "original_width": 200, "original_height": 100}
corners = np.array(convert_annotation_to_yolo_obb(box, normalize=False))
around = np.concatenate([corners.min(0), np.ptp(corners, 0)])
coco = np.array(Converter.rotated_rectangle(box)) / 100 * np.tile(size, 2)
x, y, width, height = np.array(convert_annotation_to_yolo(box)) * np.tile(size, 2)
yolo = np.array([x - width / 2, y - height / 2, width, height])
print(f"corners span {around.round(2)}, COCO {coco.round(2)}, YOLO {yolo.round(2)}")
assert np.allclose(around, [55, 20, 39.641, 28.660], atol=1e-3)
assert np.allclose(coco, [50, 20, 44.641, 18.660], atol=1e-3)
assert np.allclose(yolo, [60, 20, 40, 10])
END
