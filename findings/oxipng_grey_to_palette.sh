#!/bin/sh
# pyoxipng 9.1.1, pillow 12.3.0, numpy 2.4.6, Python 3.11
# Guess: a lossless optimiser of PNG keeps the values of a grey mask of class ids: 0, 3 and 5.
# Behaviour: it writes a palette of the three greys, which shows the same; the values that are read are 0, 1 and 2.
# Seen on 27 November 2026: mode P, values [0, 1, 2], looks the same: True
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyoxipng==9.1.1 pillow==12.3.0 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'END'
import io

import numpy as np
import oxipng
from PIL import Image

columns = np.arange(72 * 96).reshape(72, 96) % 50
grey = np.select([columns < 9, columns < 20], [3, 5], 0).astype(np.uint8)
written = io.BytesIO()
Image.fromarray(grey).save(written, "PNG")
mask = Image.open(io.BytesIO(oxipng.optimize_from_memory(written.getvalue())))
values = np.unique(np.asarray(mask)).tolist()
same = np.array_equal(np.asarray(mask.convert("L")), grey)
print(f"mode {mask.mode}, values {values}, looks the same: {same}")
raise SystemExit(not (mask.mode == "P" and values == [0, 1, 2] and same))
END
