#!/bin/sh
# sahi 0.12.8, Python 3.11
# Guess: slicing a COCO file leaves out objects whose mask is run lengths, as its warning says ("is skipped since RLE
#   segmentation format is not supported").
# Behaviour: the sliced file holds them as outlines: the rectangle of their box, with its area. A crowd (iscrowd 1)
#   becomes an object (iscrowd 0) of that rectangle too.
# Seen on 29 November 2026, for a disc of 709 pixels in a slice of the whole photo, as object and as crowd:
#   iscrowd 0: area 961, iscrowd 0, outline [[15, 25, 15, 56, 46, 56, 46, 25]]
#   iscrowd 1: area 961, iscrowd 0, outline [[15, 25, 15, 56, 46, 56, 46, 25]]
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sahi==0.12.8 \
    opencv-python-headless==5.0.0.93 pycocotools==2.0.11
cd "$folder"
venv/bin/python - <<'END'
import json

import numpy as np
from PIL import Image
from pycocotools import mask as rle
from sahi.slicing import slice_coco

height, width = 80, 100
rows, columns = np.mgrid[:height, :width]
disc = (columns - 30) ** 2 + (rows - 40) ** 2 <= 15**2
runs = rle.encode(np.asfortranarray(disc, np.uint8))
runs["counts"] = runs["counts"].decode()
Image.fromarray(np.zeros((height, width, 3), np.uint8)).save("a.jpg")
for crowd in (0, 1):
    mark = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": crowd, "segmentation": runs}
    mark |= {"area": int(disc.sum()), "bbox": rle.toBbox(runs).tolist()}
    image = {"id": 1, "file_name": "a.jpg", "height": height, "width": width}
    content = {"images": [image], "annotations": [mark], "categories": [{"id": 1, "name": "disc"}]}
    with open("coco.json", "w") as file:
        json.dump(content, file)
    sliced, _ = slice_coco(
        "coco.json",
        ".",
        output_coco_annotation_file_name="sliced",
        output_dir=f"sliced{crowd}",
        slice_height=height,
        slice_width=width,
        overlap_height_ratio=0,
        overlap_width_ratio=0,
        verbose=False,
    )
    (piece,) = sliced["annotations"]
    print(f"iscrowd {crowd}: area {piece['area']}, iscrowd {piece['iscrowd']}, outline {piece['segmentation']}")
    assert disc.sum() == 709 and piece["area"] == 961 and piece["iscrowd"] == 0
    assert piece["segmentation"] == [[15, 25, 15, 56, 46, 56, 46, 25]]
END
