#!/bin/sh
# sh reproduce.sh DATASET NET GPUS [--models symnet,ssp] [--shot 1,5] [--protocol NAME] [--folds 0,1] [--set section.key=value]
# Trains and tests all models, folds and shots of one table, skipping what is done (run it again after an interruption),
# and ends with the table and every model's paired difference to the first. MODEL as in train.sh.
cd "$(dirname "$0")" || exit 1
[ -x .venv/bin/python ] && PATH="$PWD/.venv/bin:$PATH"
exec python3 -m util.launch.reproduce "$@"
