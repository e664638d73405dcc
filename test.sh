#!/bin/sh
# sh test.sh EXPERIMENT DATASET GPUS [text vectors] [checkpoint] [--protocol bam,hsnet] [--shot 1,5] [--episodes 100]
#   [--manifest FILE.jsonl] [--save-images worst:20,best:20,random:20] [--allow-fold-mismatch] [--set section.key=value]
#   [--calibrate]
# Scores a checkpoint (default: the best of this run) on the fold's novel classes. NET and MODEL as in train.sh.
cd "$(dirname "$0")" || exit 1
[ -x .venv/bin/python ] && PATH="$PWD/.venv/bin:$PATH"
exec python3 -m util.launch.launch test "$@"
