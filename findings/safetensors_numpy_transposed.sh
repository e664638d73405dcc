#!/bin/sh
# safetensors 0.8.0, numpy 2.4.6, Python 3.11
# Guess: safetensors.numpy.save() keeps the values of an array that is transposed, or refuses it as safetensors.torch
#   does with a tensor.
# Behaviour: it writes the memory as it lies, beside the transposed shape: other values are read back, without a word.
# Seen on 27 November 2026: saved [[0, 3], [1, 4], [2, 5]], read [[0, 1], [2, 3], [4, 5]]
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import numpy as np
from safetensors.numpy import load, save

transposed = np.arange(6).reshape(2, 3).T
read = load(save({"weight": transposed}))["weight"]
print(f"saved {transposed.tolist()}, read {read.tolist()}")
assert read.shape == transposed.shape and not np.array_equal(read, transposed)
copied = load(save({"weight": np.ascontiguousarray(transposed)}))["weight"]
assert np.array_equal(copied, transposed)
END
