#!/bin/sh
# encord 0.1.211, pycocotools 2.0.11, Python 3.11
# Guess: the "rleString" of a bitmask in Encord's labels, which has the characters of COCO's compressed run lengths, is
#   the mask that pycocotools decodes, and the other way round.
# Behaviour: it runs along the rows, COCO's along the columns. Either reader takes the other's string without an error,
#   and finds as many pixels as the mask has: only their place is wrong, so that an area does not show it.
# Seen on 30 November 2026, of a rectangle of 30 x 20 pixels on a photo of 100 x 80:
#   Encord's string read by pycocotools: 600 pixels, 120 of them in the object
#   COCO's string read by Encord: 600 pixels, 120 of them in the object
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check encord==0.1.211 pycocotools==2.0.11 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'END'
import numpy as np
from encord.objects.coordinates import BitmaskCoordinates
from pycocotools import mask as coco

height, width = 80, 100
mask = np.zeros((height, width), bool)
mask[20:40, 30:60] = True
label = BitmaskCoordinates(mask).to_dict()
assert (np.asarray(BitmaskCoordinates.from_dict(label)) == mask).all()
ours = coco.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()

read = {
    "Encord's string read by pycocotools": coco.decode({"size": [height, width], "counts": label["rleString"]}),
    "COCO's string read by Encord": np.asarray(BitmaskCoordinates.from_dict(label | {"rleString": ours})),
}
for what, found in read.items():
    common = int((found.astype(bool) & mask).sum())
    print(f"{what}: {found.sum()} pixels, {common} of them in the object")
    assert found.shape == mask.shape and (int(found.sum()), common) == (600, 120)
END
