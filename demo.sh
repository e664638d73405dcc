#!/bin/sh
# Sets everything up in .venv and trains and tests Sym-Net on a data set drawn by code: no download, CPU, some minutes.
set -e
cd "$(dirname "$0")"
unset PYTHONSAFEPATH  # with which Python would not find this folder
[ -x .venv/bin/python ] || { python3 -m util.requirements || exit; python3 -m venv .venv; }
echo "installing requirements into .venv (a few minutes the first time)"
.venv/bin/python -m pip install --no-compile --quiet --disable-pip-version-check -r requirements.txt
PATH="$PWD/.venv/bin:$PATH"
runs=${DEMO:-runs/demo} photos=${DEMO:-runs/demo}/data
set -- --set run.folder="$runs" --set data.root="$photos" --set data.cache="$runs/cache" "$@"

python prepare.py mini --out "$photos"
echo "== base stage: the base learner, over a frozen encoder; meta stage: episodes of base classes =="
sh train.sh mini_demo mini 0 "$@" --set run.name=symnet --resume
echo "== tests on the novel classes: trained, untrained, and a baseline without training =="
sh test.sh mini_demo mini 0 "$@" --set run.name=symnet
sh test.sh mini_demo mini 0 "$@" --set run.name=untrained --set test.checkpoint=none
MODEL=prototype NET=lite0 sh test.sh split0 mini 0 "$@" --set run.name=prototype --set data.size=129
python report.py figure "$runs/symnet" --episodes 0,1,2,3 --out "$runs/demo"
python report.py table "$runs/symnet" "$runs/untrained" "$runs/prototype" --rows results --published none
