#!/bin/sh
# sh test.sh EXPERIMENT DATASET GPUS [text vectors] [checkpoint] [options]
#
# Scores a checkpoint (default: the best of this run) on the fold's novel classes.
#
#   EXPERIMENT     such as split0: config/DATASET/DATASET_split0_NET.yaml, if that is there, else fold 0 of the recipe;
#                  or a file of your own: mine (config/DATASET/mine.yaml), or its path
#   DATASET        such as pascal, coco, mini
#   GPUS           how many of this machine, a process each; 0 is the CPU. For one that you choose:
#                  CUDA_VISIBLE_DEVICES=3 sh test.sh split0 coco 1
#   text vectors   a name, or a file
#   checkpoint     a file of this project or of the authors
#
#   --protocol bam,hsnet   rules of evaluation, or all that fit; default test.protocol
#   --shot 1,5             numbers of supports; default data.shot
#   --manifest FILE.jsonl  replay the episodes of a result's episodes.jsonl
#   --save-images KINDS    such as worst:20,best:20,random:20: draw episodes and a contact sheet
#   --figures FORMAT       pdf or svg: curves, bars and pictures in this format too
#   --format FORMAT        of printed tables: markdown, latex or csv
#   --calibrate            fit pixel probabilities and the presence score on base classes
#   --set KEY=VALUE        override a setting, such as test.edges=true or test.episodes=100; may be repeated
#   --print-config         print the config and where each value comes from, and end
#   --list                 print the recipes, methods, encoders and data sets that are there, and end
#   --version              print the version, and end
#
# In the environment: MODEL, the method (default symnet); NET, the encoder (default resnet50).
#
#   sh test.sh split0 pascal 1 --protocol bam,hsnet --shot 1,5
#   MODEL=ssp sh test.sh split0 pascal 0 runs/mine/meta/best.pth --set test.episodes=100
case "$# $* " in "0 "* | *" -h "* | *" --help "*) exec sed -n '2,/^case/s/^# \{0,1\}//p' "$0" ;; esac
cd "$(dirname "$0")" || exit 1
[ -x .venv/bin/python ] && PATH="$PWD/.venv/bin:$PATH"
python3 -m util.requirements || exit
exec python3 -m util.launch.torchrun test "$@"
