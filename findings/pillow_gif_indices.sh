#!/bin/sh
# pillow 12.3.0, numpy 2.4.6, Python 3.11
# Guess: a palette mask keeps its indices in GIF, which has no loss: the class 2 alone is 2.
# Behaviour: Pillow writes the colours in use alone, so that the class is 1; a PNG, with optimize=True too, keeps 2.
# Seen on 27 November 2026: GIF [0, 1], PNG [0, 2]
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==12.3.0 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'END'
import numpy as np
from PIL import Image

values = np.zeros((72, 96), np.uint8)
values[10:30, 20:50] = 2
mask = Image.fromarray(values)
mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
mask.save("mask.gif")
mask.save("mask.png", optimize=True)
gif, png = (np.unique(np.asarray(Image.open(name))).tolist() for name in ("mask.gif", "mask.png"))
print(f"GIF {gif}, PNG {png}")
raise SystemExit(not (gif == [0, 1] and png == [0, 2]))
END
