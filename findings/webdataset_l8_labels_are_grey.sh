#!/bin/sh
# webdataset 1.0.2, Pillow 13.0.0, Python 3.11
# Guess: PASCAL's label images, which are PNGs with a palette, keep their class ids in WebDataset.decode("l8"), eight
#   bits without colour.
# Behaviour: they become the grey of their colours, which look like class ids and are others. decode("pil") has lost
#   the ids, too: its images are RGB.
# Seen on 30 November 2026, for a label image with background, table (11), dog (12) and void (255):
#   l8: [0, 34, 133, 220]; pil: RGB
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check webdataset==1.0.2 pillow==13.0.0
cd "$folder"
venv/bin/python - <<'END'
import tarfile

import numpy as np
import webdataset
from PIL import Image

palette = np.zeros((256, 3), np.uint8)
palette[[11, 12, 255]] = (192, 128, 0), (64, 0, 128), (224, 224, 192)  # PASCAL's colours
label = np.zeros((8, 8), np.uint8)
label[2], label[4], label[6] = 11, 12, 255
image = Image.fromarray(label)
image.putpalette(palette.tobytes())
image.save("label.png")
assert Image.open("label.png").mode == "P" and (np.asarray(Image.open("label.png")) == label).all()
with tarfile.open("shard.tar", "w") as shard:
    shard.add("label.png", "photo.label.png")


def decoded(how):
    (sample,) = webdataset.WebDataset("shard.tar", shardshuffle=False).decode(how)
    return sample["label.png"]


ids = np.unique(decoded("l8")).tolist()
mode = decoded("pil").mode
print(f"l8: {ids}; pil: {mode}")
assert ids == [0, 34, 133, 220], ids
assert mode == "RGB"
END
