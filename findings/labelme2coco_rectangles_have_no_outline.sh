#!/bin/sh
# labelme2coco 0.2.6 and pycocotools 2.0.11, Python 3.11
# Guess: labelme's shapes become objects of a COCO file with as many pixels, and polygons that share a group_id, the
#   parts of one object, become one object.
# Behaviour: a rectangle becomes an object with box and area, but without an outline, of which pycocotools makes no mask
#   (IndexError). The parts of a group become an object each.
# Seen on 1 December 2026, outlines and area by class: cat, two polygons of a group: [(1, 100), (1, 100)], dog, a
#   rectangle: [(0, 300)]
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check labelme2coco==0.2.6 pycocotools==2.0.11
cd "$folder"
venv/bin/python - <<'END'
import contextlib
import io
import json
import pathlib

import labelme2coco
from PIL import Image
from pycocotools.coco import COCO

squares = [[[left, 5], [left + 10, 5], [left + 10, 15], [left, 15]] for left in (5, 20)]
shapes = [{"label": "cat", "points": square, "group_id": 1, "shape_type": "polygon", "flags": {}} for square in squares]
box = {"label": "dog", "points": [[10, 20], [30, 35]], "group_id": None, "shape_type": "rectangle", "flags": {}}
pathlib.Path("photos").mkdir()
Image.new("RGB", (60, 40)).save("photos/a.jpg")
size = {"imageHeight": 40, "imageWidth": 60, "imagePath": "a.jpg", "imageData": None}
content = {"version": "5.0", "flags": {}, "shapes": [*shapes, box], **size}
pathlib.Path("photos/a.json").write_text(json.dumps(content))
with contextlib.redirect_stdout(io.StringIO()):
    labelme2coco.convert("photos", "out")
    file = COCO("out/dataset.json")
names = {entry["id"]: entry["name"] for entry in file.dataset["categories"]}
found = {name: [] for name in names.values()}
for mark in file.dataset["annotations"]:
    found[names[mark["category_id"]]].append((len(mark["segmentation"]), mark["area"]))
print(f"outlines and area by class: {found}")
assert found == {"cat": [(1, 100), (1, 100)], "dog": [(0, 300)]}
try:
    file.annToMask(file.dataset["annotations"][-1])
except IndexError as error:
    print(f"the rectangle's mask: IndexError ({error})")
else:
    raise AssertionError("the rectangle has a mask")
END
