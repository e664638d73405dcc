#!/bin/sh
# isat-sam 1.5.2, Python 3.11
# Guess: a COCO file opens with its objects, whose iscrowd is 0 as COCO's own files have it.
# Behaviour: the reader takes objects whose iscrowd is false, or true where crowds are kept, and compares by identity:
#   entries with the numbers 0 and 1 are left out without a word. Files that it wrote itself hold false.
# Seen on 29 November 2026, objects of a file with one square: iscrowd 0: 0, 1: 0, False: 1, True: 1
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11 \
    opencv-python-headless==5.0.0.93 imgviz==2.1.0 pydicom==3.0.2 pyyaml==6.0.4 tqdm==4.70.1
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps isat-sam==1.5.2  # the rest is its window's
cd "$folder"
venv/bin/python - <<'END'
import contextlib
import io
import json

from ISAT.formats.coco import COCO

found = {}
for crowd in (0, 1, False, True):
    outline = [10, 10, 30, 10, 30, 30, 10, 30]
    mark = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": crowd, "segmentation": [outline], "area": 400}
    image = {"id": 1, "file_name": "a.jpg", "height": 80, "width": 100}
    content = {"images": [image], "annotations": [mark], "categories": [{"id": 1, "name": "square"}]}
    with open("coco.json", "w") as file:
        json.dump(content, file)
    reader = COCO()
    reader.keep_crowd = True
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        reader.read_from_coco("coco.json")
    (opened,) = reader.annos.values()
    found[repr(crowd)] = len(opened.objs)
print(f"objects by iscrowd: {found}")
assert found == {"0": 0, "1": 0, "False": 1, "True": 1}
END
