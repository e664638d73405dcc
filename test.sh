#!/bin/sh
# sh test.sh EXPERIMENT DATASET GPUS [text vectors] [checkpoint] [--set section.key=value]
# Scores a checkpoint (default: the best of this run) on the fold's novel classes. NET and MODEL as in train.sh.
cd "$(dirname "$0")" || exit 1
[ -x .venv/bin/python ] && PATH="$PWD/.venv/bin:$PATH"
exec python3 -m util.engine.launch test "$@"
