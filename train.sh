#!/bin/sh
# sh train.sh EXPERIMENT DATASET GPUS [text vectors] [base checkpoint] [--resume | --overwrite] [--set section.key=value]
# Trains the base stage where its checkpoint is missing, then the meta stage. 0 GPUs is the CPU.
# NET=resnet101 picks another network, MODEL=... another model; NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT: many machines.
cd "$(dirname "$0")" || exit 1
[ -x .venv/bin/python ] && PATH="$PWD/.venv/bin:$PATH"
exec python3 -m util.launch.launch train "$@"
