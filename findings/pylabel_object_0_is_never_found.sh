#!/bin/sh
# pylabel 0.1.55, pycocotools 2.0.11, Python 3.11
# Guess: a COCO file that was read and written by PyLabel, without a change, evaluates as before: predictions with the
#   masks of the truth have an average precision of 1.
# Behaviour: PyLabel numbers the annotations anew, from 0. pycocotools notes which object a prediction is matched to by
#   the object's id, and takes 0 for "none": the first object of the file is never found, and the prediction of it,
#   whose mask is right, counts as a false one. No message tells it.
# Seen on 30 November 2026, for three objects on a photo, average precision and recall of masks:
#   ids 1, 2, 3: 1.000 and 1.000; by PyLabel, ids 0, 1, 2: 0.442 and 0.667
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
UV_CACHE_DIR="$folder/cache" "$folder/venv/bin/uv" pip install --quiet --python "$folder/venv/bin/python" \
    pylabel==0.1.55 pandas==2.3.3 numpy==2.2.6 pycocotools==2.0.11
cd "$folder"
venv/bin/python 2>warnings.txt - <<'END'
import contextlib
import io
import json
from pathlib import Path

from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from pylabel import importer

objects = []
for number, (left, top, side) in enumerate([(5, 5, 30), (50, 10, 30), (20, 50, 20)], 1):
    right, bottom = left + side, top + side
    outline = [left, top, right, top, right, bottom, left, bottom]
    entry = {"id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": side * side}
    objects.append(entry | {"bbox": [left, top, side, side], "segmentation": [outline]})
image = {"id": 1, "width": 100, "height": 80, "file_name": "a.png"}
content = {"images": [image], "categories": [{"id": 1, "name": "cat"}], "annotations": objects}
Path("own.json").write_text(json.dumps(content))
Image.new("RGB", (100, 80)).save("a.png")
importer.ImportCoco("own.json", path_to_images="").export.ExportToCoco(output_path="pylabel.json")

for name, ids, expected in (("own.json", [1, 2, 3], (1.0, 1.0)), ("pylabel.json", [0, 1, 2], (0.442, 0.667))):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(name)
        marks = truth.dataset["annotations"]
        found = []
        for place, mark in enumerate(marks):
            entry = {"image_id": mark["image_id"], "category_id": 1, "score": 0.9 - 0.1 * place}
            found.append(entry | {"segmentation": truth.annToRLE(mark)})
        evaluation = COCOeval(truth, truth.loadRes(found), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision, recall = evaluation.stats[0], evaluation.stats[8]
    print(f"{name}: ids {[mark['id'] for mark in marks]}, precision {precision:.3f}, recall {recall:.3f}")
    assert [mark["id"] for mark in marks] == ids
    assert (round(float(precision), 3), round(float(recall), 3)) == expected
END
