#!/usr/bin/env bash
# Masks that programs of the field write, and the numbers that others read in them. Runs without this project, on valid
# input, in a temporary environment: bash findings/masks.sh. Exit code 1 if a behaviour is not the one described.
#
# tifffile 2026.3.3, imageio 2.38.1, scikit-image 0.26.0, Pillow 12.3.0, OpenCV 4.14.0, pyoxipng 9.1.1, datumaro 1.13.12
#
# 1. Guess: a bool array that is written as TIFF and read again is the same. Seen: tifffile and imageio write one bit in
#    which 0 is white; Pillow and OpenCV read the opposite (6906 of 6912 pixels for 6). Pillow and scikit-image write
#    files that all read alike.
# 2. Guess: a palette mask keeps its indices in a format without loss. Seen: Pillow writes a GIF with a palette of the
#    colours in use: the class 2 alone becomes 1. A PNG, with optimize=True too, keeps 2.
# 3. Guess: a lossless optimiser of PNG keeps the values of a grey mask. Seen: oxipng makes grey 0, 3 and 5 the indices
#    0, 1 and 2 of a palette, which shows the same.
# 4. Guess: Datumaro's KITTI export of the classes cat and dog leaves 0 to the background. Seen: cat is 0, as are the
#    pixels of no class, and dog is 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install tifffile==2026.3.3 imageio==2.38.1 scikit-image==0.26.0 pillow==12.3.0 \
    opencv-python-headless==4.14.0.94 pyoxipng==9.1.1 datumaro==1.13.12
cd "$folder"
venv/bin/python -W ignore - <<'PYTHON'
import io
import sys
from pathlib import Path

import cv2
import datumaro
import imageio.v3 as imageio
import numpy as np
import oxipng
import skimage.io
import tifffile
from datumaro.components.annotation import Mask
from datumaro.components.media import Image as Photo
from PIL import Image

seen = []


def check(what, values, expected):
    print(f"{what}: {values}")
    seen.append(values == expected)


marked = np.zeros((72, 96), bool)
marked[10:12, 20:23] = True
writers = {
    "tifffile": tifffile.imwrite,
    "imageio": imageio.imwrite,
    "scikit-image": skimage.io.imsave,
    "Pillow": lambda path, array: Image.fromarray(array).save(path),
}
for name, write in writers.items():
    path = f"{name}.tif"
    write(path, marked)
    pillow = int(np.asarray(Image.open(path)).astype(bool).sum())
    opencv = int(cv2.imread(path, cv2.IMREAD_UNCHANGED).astype(bool).sum())
    stored = int(tifffile.imread(path).astype(bool).sum())
    expected = (6906, 6906, 6) if name in ("tifffile", "imageio") else (6, 6, 6)
    check(f"1. True pixels of {name}'s TIFF by Pillow, OpenCV, tifffile", (pillow, opencv, stored), expected)

mask = Image.fromarray(2 * marked.astype(np.uint8))
mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
mask.save("mask.gif")
mask.save("mask.png", optimize=True)
for path, expected in (("mask.gif", [0, 1]), ("mask.png", [0, 2])):
    check(f"2. indices in {path} of 0 and 2", np.unique(np.asarray(Image.open(path))).tolist(), expected)

columns = np.arange(72 * 96).reshape(72, 96) % 50
grey = np.select([columns < 9, columns < 20], [3, 5], 0).astype(np.uint8)
written = io.BytesIO()
Image.fromarray(grey).save(written, "PNG")
optimised = Image.open(io.BytesIO(oxipng.optimize_from_memory(written.getvalue())))
same = np.array_equal(np.asarray(optimised.convert("L")), grey)
values = np.unique(np.asarray(optimised)).tolist()
check("3. mode and values of 0, 3 and 5, and whether they look the same", (optimised.mode, values, same), ("P", [0, 1, 2], True))

dog = np.zeros((72, 96), bool)
dog[30:50, 40:70] = True
masks = [Mask(marked, label=0, id=1, group=1), Mask(dog, label=1, id=2, group=2)]
photo = Photo.from_numpy(data=np.full((72, 96, 3), 90, np.uint8))
item = datumaro.DatasetItem(id="photo", subset="train", media=photo, annotations=masks)
dataset = datumaro.Dataset.from_iterable([item], categories=["cat", "dog"])
dataset.export("kitti", "kitti_segmentation", save_media=True)
values = np.asarray(Image.open(Path("kitti/train/semantic/photo.png")))
found = [np.unique(values[where]).tolist() for where in (marked, dog, ~(marked | dog))]
check("4. values of cat, of dog, of neither", found, [[0], [1], [0]])
sys.exit(0 if all(seen) else 1)
PYTHON
