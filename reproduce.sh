#!/bin/sh
# sh reproduce.sh DATASET NET GPUS [options]
#
# Trains and tests all methods, folds and shots of one table, and prints the table. It skips finished parts: after an
# interruption run it again.
#
#   DATASET   such as pascal, coco, mini
#   NET       the encoder, such as resnet50
#   GPUS      number of GPUs on this machine, with a process for each; 0 is the CPU
#
#   --models symnet,ssp   methods, or your own files as in train.sh; default: the environment variable MODEL, or symnet
#   --shot 1,5            numbers of supports
#   --seeds 1,2,3         a training for each seed, in its own run; the table has their mean and deviation
#   --folds 0,1           folds; default: all
#   --protocol NAME       test procedure; default: test.protocol of the first method's config
#   --set KEY=VALUE       override a setting of all trainings and tests; may be repeated
#   --dry-run             print every stage and test with its state, steps and disk space, and every error that would
#                         stop it; needs no GPU, and writes only the data's index (data.cache)
#   --version             only print the version
#
#   sh reproduce.sh pascal resnet50 8 --models symnet,ssp --dry-run
#   sh reproduce.sh pascal lite0 0 --models pocket
case "$# $* " in "0 "* | *" -h "* | *" --help "*) exec sed -n '2,/^case/s/^# \{0,1\}//p' "$0" ;; esac
cd "$(dirname "$0")" || exit 1
[ -x .venv/bin/python ] && PATH="$PWD/.venv/bin:$PATH"
python3 -m util.requirements || exit
exec python3 -m util.launch.reproduce "$@"
