#!/bin/sh
# datumaro 1.13.12, pillow 12.3.0, numpy 2.4.6, Python 3.11
# Guess: the KITTI export of the classes cat and dog leaves 0 to pixels of no class.
# Behaviour: the first class is 0 as those pixels are, and the second 1: the cats are gone.
# Seen on 27 November 2026: cat [0], dog [1], neither [0]
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check datumaro==1.13.12 pillow==12.3.0 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'END'
import datumaro
import numpy as np
from datumaro.components.annotation import Mask
from datumaro.components.media import Image as Photo
from PIL import Image

cat, dog = np.zeros((2, 72, 96), bool)
cat[10:20, 20:30] = True
dog[30:50, 40:70] = True
masks = [Mask(cat, label=0, id=1, group=1), Mask(dog, label=1, id=2, group=2)]
photo = Photo.from_numpy(data=np.full((72, 96, 3), 90, np.uint8))
item = datumaro.DatasetItem(id="photo", subset="train", media=photo, annotations=masks)
dataset = datumaro.Dataset.from_iterable([item], categories=["cat", "dog"])
dataset.export("kitti", "kitti_segmentation", save_media=True)
values = np.asarray(Image.open("kitti/train/semantic/photo.png"))
found = [np.unique(values[where]).tolist() for where in (cat, dog, ~(cat | dog))]
print("cat {}, dog {}, neither {}".format(*found))
raise SystemExit(found != [[0], [1], [0]])
END
