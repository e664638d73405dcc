#!/bin/sh
# sh test.sh EXPERIMENT DATASET GPUS [text vectors] [checkpoint] [options]
#
# Tests a checkpoint (default: the run's best) on the fold's novel classes.
#
#   EXPERIMENT     split0: fold 0, by config/DATASET/DATASET_split0[_MODEL]_NET.yaml if this file exists, else
#                  by the recipe; or your own config: mine for config/DATASET/mine.yaml, or a path
#   DATASET        such as pascal, coco, mini
#   GPUS           number of GPUs on this machine, with a process for each; 0 is the CPU. To choose GPU 3:
#                  CUDA_VISIBLE_DEVICES=3 sh test.sh split0 coco 1
#   text vectors   word2vec, names, none, or a file with vectors of the class names
#   checkpoint     a file of weights by this project or by the method's authors
#
# Options come last:
#
#   --protocol bam,hsnet   test procedures; default test.protocol
#   --shot 1,5             numbers of supports; default data.shot
#   --manifest FILE.jsonl  test the episodes of a result's episodes.jsonl again
#   --overwrite            score again also what is done with the same settings, weights, photos and code; what was
#                          scored with others is scored again anyway
#   --format FORMAT        format of printed tables: markdown, latex or csv
#   --set KEY=VALUE        override a setting, such as test.episodes=100; may be repeated
#   --print-config         only print what differs from the defaults or the run's file states, with files
#   --print-whole-config   only print every value, with its file
#   --list                 only print the known recipes, methods, encoders and data sets
#   --version              only print the version
#
# Environment variables: MODEL is the method (default symnet), NET the encoder
# (default: that of the method's or data set's file, else resnet50).
#
#   sh test.sh split0 pascal 1 --protocol bam,hsnet --shot 1,5
#   MODEL=ssp sh test.sh split0 pascal 0 runs/mine/meta/best.pth --set test.episodes=100
case "$# $* " in "0 "* | *" -h "* | *" --help "*) exec sed -n '2,/^case/s/^# \{0,1\}//p' "$0" ;; esac
cd "$(dirname "$0")" || exit 1
unset PYTHONSAFEPATH  # with which Python would not find this folder
[ -x .venv/bin/python ] && PATH="$PWD/.venv/bin:$PATH"
exec python3 -m util.launch test "$@"
