#!/usr/bin/env bash
# Datumaro leaves polygons out of VOC's masks without a word. Exit code 1: it does no longer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datumaro==1.13.12 numpy==2.4.6 pillow==12.3.0 2>"$folder/pip.log" || { cat "$folder/pip.log"; exit 2; }
cd "$folder"
cat >check.py <<'PYTHON'
import sys
from importlib.metadata import version

import datumaro as dm
import numpy as np
from PIL import Image

GUESS = "an export as VOC segmentation paints a polygon as it paints a mask, or says that it does not"
photo = np.random.default_rng(0).integers(0, 255, (72, 96, 3)).astype(np.uint8)
painted = np.zeros((72, 96), bool)
painted[20:60, 52:88] = True
outlined = [8, 10, 40, 10, 40, 50, 8, 50]
marks = [dm.Polygon(outlined, label=0, id=1, group=1), dm.Mask(painted, label=1, id=2, group=2)]
item = dm.DatasetItem("p0", media=dm.Image.from_numpy(photo), annotations=marks)
dm.Dataset.from_iterable([item], categories=["cat", "dog"]).export("voc", "voc_segmentation", save_media=True)
colours = np.asarray(Image.open("voc/SegmentationClass/p0.png").convert("RGB")).reshape(-1, 3)
pixels = {name: int((colours == colour).all(1).sum()) for name, colour in (("cat", (128, 0, 0)), ("dog", (0, 128, 0)))}
print(f"datumaro {version('datumaro')}, numpy {version('numpy')}, pillow {version('pillow')}")
print(f"guess: {GUESS}")
print(f"seen: of a cat as a polygon of 1280 pixels and a dog as a mask of 1440 the mask holds {pixels}")
sys.exit(pixels != {"cat": 0, "dog": 1440})
PYTHON
venv/bin/python check.py
