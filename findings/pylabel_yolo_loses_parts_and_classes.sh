#!/bin/sh
# pylabel 0.1.55, Python 3.11
# Guess: outlines of a COCO file, exported to YOLO by PyLabel, keep their class name and all their parts.
# Behaviour: a row has COCO's category id, which counts from 1, while dataset.yaml lists the names of what is annotated,
#   which readers count from 0: each object has the name after its own, the last none. Of an object in several parts
#   only the first is written. With cat_id_index=0 the classes are right, and the parts are lost as before.
# Seen on 30 November 2026, for a cat (id 1) of two parts and a dog (id 2) in a photo of 100 x 80:
#   names: cat, dog; first row: class 1, 4 points of 8; second row: class 2, which has no name
#   cat_id_index=0: first row: class 0, 4 points of 8
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
UV_CACHE_DIR="$folder/cache" "$folder/venv/bin/uv" pip install --quiet --python "$folder/venv/bin/python" \
    pylabel==0.1.55 pandas==2.3.3 numpy==2.2.6
cd "$folder"
venv/bin/python 2>warnings.txt - <<'END'
import json
from pathlib import Path

import yaml
from PIL import Image
from pylabel import importer

parts = [[10, 10, 20, 10, 20, 20, 10, 20], [60, 20, 80, 20, 80, 40, 60, 40]]
cat = {"id": 1, "image_id": 1, "category_id": 1, "area": 500, "bbox": [10, 10, 70, 30], "segmentation": parts}
dog = {"id": 2, "image_id": 1, "category_id": 2, "area": 100, "bbox": [10, 50, 10, 10]}
dog["segmentation"] = [[10, 50, 20, 50, 20, 60, 10, 60]]
content = {
    "images": [{"id": 1, "width": 100, "height": 80, "file_name": "a.png"}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    "annotations": [mark | {"iscrowd": 0} for mark in (cat, dog)],
}
Path("coco.json").write_text(json.dumps(content))
Image.new("RGB", (100, 80)).save("a.png")


def exported(folder, **options):
    data = importer.ImportCoco("coco.json", path_to_images="")
    data.export.ExportToYoloV5(output_path=f"{folder}/labels", segmentation=True, **options)
    names = yaml.safe_load(Path(folder, "dataset.yaml").read_text())["names"]
    rows = [row.split() for row in Path(folder, "labels/a.txt").read_text().splitlines()]
    found = [(int(row[0]), (len(row) - 1) // 2) for row in rows]
    print(f"{folder}: names {names}; rows of class and points {found}")
    return names, found


assert exported("default") == (["cat", "dog"], [(1, 4), (2, 4)])
assert exported("from_0", cat_id_index=0) == (["cat", "dog"], [(0, 4), (1, 4)])
END
