#!/bin/sh
# sh train.sh EXPERIMENT DATASET GPUS [text vectors] [checkpoint] [options]
#
# Trains the base stage where its checkpoint is missing, then the meta stage.
#
#   EXPERIMENT     such as split0: config/DATASET/DATASET_split0_NET.yaml, if that is there, else fold 0 of the recipe;
#                  or a file of your own: mine (config/DATASET/mine.yaml), or its path
#   DATASET        such as pascal, coco, mini
#   GPUS           how many of this machine, a process each; 0 is the CPU
#   text vectors   a name, or a file
#   checkpoint     of a base stage, in place of the run's own; to continue a training write --resume
#
#   --stage STAGE        base or meta alone
#   --resume             continue from the last checkpoint, with the options that the run was begun with
#   --overwrite          start again, discarding the run there
#   --allow-changes      resume although settings that decide the result were changed
#   --dry-run            print every stage with its state, steps and disk space, and every error that would stop it;
#                        writes only the index of the data (data.cache), needs no GPU
#   --set KEY=VALUE      override a setting, such as data.shot=5; may be repeated
#   --print-config       print the config and where each value comes from, and end
#   --list               print the recipes, methods, encoders and data sets that are there, and end
#   --version            print the version, and end
#
# In the environment: MODEL, the method (default symnet); NET, the encoder (default resnet50); for several machines
# NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT.
#
#   sh train.sh split0 pascal 4
#   MODEL=ssp NET=resnet101 sh train.sh split2 pascal 1 --set data.shot=5
case "$# $* " in "0 "* | *" -h "* | *" --help "*) exec sed -n '2,/^case/s/^# \{0,1\}//p' "$0" ;; esac
cd "$(dirname "$0")" || exit 1
[ -x .venv/bin/python ] && PATH="$PWD/.venv/bin:$PATH"
python3 -m util.requirements || exit
exec python3 -m util.launch.torchrun train "$@"
