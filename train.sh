#!/bin/sh
# sh train.sh EXPERIMENT DATASET GPUS [text vectors] [checkpoint] [options]
#
# Trains the base stage if its checkpoint is missing, then the meta stage.
#
#   EXPERIMENT     split0: fold 0, by config/DATASET/DATASET_split0[_MODEL]_NET.yaml if this file exists, else
#                  by the recipe; or your own config: mine for config/DATASET/mine.yaml, or a path
#   DATASET        such as pascal, coco, mini
#   GPUS           number of GPUs on this machine, with a process for each; 0 is the CPU
#   text vectors   word2vec, names, none, or a file with vectors of the class names
#   checkpoint     a base stage's, used instead of the run's own; to continue a training write --resume
#
# Options come last:
#
#   --stage STAGE        train only this stage: base or meta
#   --resume             continue from the last checkpoint, with the options of the first command
#   --overwrite          begin both stages again (or that of --stage), and discard the earlier run of this name
#   --allow-changes      resume although settings that decide the result were changed
#   --dry-run            print every stage with its state, steps and disk space, and every error that would stop it;
#                        needs no GPU, and writes only the data's index (data.cache)
#   --league             refuse what the league's table (docs/league.md) would refuse after the training
#   --set KEY=VALUE      override a setting, such as data.shot=5; may be repeated
#   --print-config       only print what differs from the defaults or the run's file states, with files
#   --print-whole-config only print every value, with its file
#   --list               only print the known recipes, methods, encoders and data sets
#   --version            only print the version
#
# Environment variables: MODEL is the method (default symnet), NET the encoder
# (default: that of the method's or data set's file, else resnet50).
#
#   sh train.sh split0 pascal 4
#   MODEL=ssp NET=resnet101 sh train.sh split2 pascal 1 --set data.shot=5
case "$# $* " in "0 "* | *" -h "* | *" --help "*) exec sed -n '2,/^case/s/^# \{0,1\}//p' "$0" ;; esac
cd "$(dirname "$0")" || exit 1
unset PYTHONSAFEPATH  # with which Python would not find this folder
[ -x .venv/bin/python ] && PATH="$PWD/.venv/bin:$PATH"
exec python3 -m util.launch train "$@"
