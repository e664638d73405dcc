#!/bin/sh
# Sets everything up in .venv and trains and tests Sym-Net+ on a data set drawn by code: no download, CPU, some minutes.
set -e
cd "$(dirname "$0")"
[ -x .venv/bin/python ] || { python3 -m util.requirements --python-alone || exit; python3 -m venv .venv; }
echo "installing requirements into .venv (a few minutes the first time)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
exec .venv/bin/python -m util.launch.demo "$@"
