#!/usr/bin/env bash
# gensim reads a line of a text file of word vectors that has one number alone as a vector of that number throughout.
# Exit code 1: it does no longer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet gensim==4.4.0 numpy==2.4.6 2>"$folder/pip.log" || { cat "$folder/pip.log"; exit 2; }
cd "$folder"
cat >check.py <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

from gensim.models import KeyedVectors

GUESS = "a line with fewer numbers than the others, as of a file that was cut short, is refused"
print(f"gensim {version('gensim')}, numpy {version('numpy')}")
print(f"guess: {GUESS}")
Path("two.txt").write_text("cat 0.1 0.2 0.3\ndog 0.4 0.5\n")
try:
    KeyedVectors.load_word2vec_format("two.txt", no_header=True)
except ValueError as error:
    print(f"seen, of two numbers for three: {error}")
Path("one.txt").write_text("cat 0.1 0.2 0.3\ndog 0.4\n")
dog = KeyedVectors.load_word2vec_format("one.txt", no_header=True)["dog"]
print(f"seen, of one number for three: dog is {dog}")
sys.exit(dog.shape != (3,) or len(set(dog.tolist())) > 1)
PYTHON
venv/bin/python check.py
