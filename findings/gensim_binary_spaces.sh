#!/usr/bin/env bash
# gensim writes a word with a space to a binary file of word2vec, and reads other words and numbers. Exit code 1: it does
# no longer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet gensim==4.4.0 numpy==2.4.6 2>"$folder/pip.log" || { cat "$folder/pip.log"; exit 2; }
cd "$folder"
cat >check.py <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from gensim.models import KeyedVectors

GUESS = "a table that gensim writes in word2vec's binary form is the same when it reads it, or is refused"
words = ["the", "polar bear", "cat", "dog"]
written = KeyedVectors(8)
written.add_vectors(words, np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32))
written.save_word2vec_format("words.bin", binary=True)
read = KeyedVectors.load_word2vec_format("words.bin", binary=True, unicode_errors="replace")
names = [name for name in read.index_to_key if name]
print(f"gensim {version('gensim')}, numpy {version('numpy')}")
print(f"guess: {GUESS}")
print(f"seen: {words} come back as {names}; the first numbers of 'polar' are {read['polar'][:2]}")
sys.exit("polar" not in names or "cat" in names or "dog" not in names)
PYTHON
venv/bin/python check.py
