#!/bin/sh
# sh reproduce.sh DATASET NET GPUS [options]
#
# Trains and tests all models, folds and shots of one table, skipping what is done (run it again after an interruption),
# and ends with the table.
#
#   DATASET   such as pascal, coco, mini
#   NET       the encoder, such as resnet50
#   GPUS      of this machine, a process each; 0 is the CPU
#
#   --models symnet,ssp   methods, or files of your own as of train.sh, in one table; default MODEL in the environment,
#                         else symnet
#   --shot 1,5            numbers of supports
#   --seeds 1,2,3         a training for each, in a run of its own; the table has their mean and deviation
#   --folds 0,1           default: all
#   --protocol NAME       default: test.protocol of the first model's config
#   --set KEY=VALUE       override a setting of all parts; may be repeated
#   --dry-run             print every stage and test with its state, steps and disk space, and every error that would
#                         stop it; writes only the index of the data (data.cache), needs no GPU
#   --version             print the version, and end
#
#   sh reproduce.sh pascal resnet50 8 --models symnet,ssp --dry-run
#   sh reproduce.sh pascal lite0 0 --models pocket
case "$# $* " in "0 "* | *" -h "* | *" --help "*) exec sed -n '2,/^case/s/^# \{0,1\}//p' "$0" ;; esac
cd "$(dirname "$0")" || exit 1
[ -x .venv/bin/python ] && PATH="$PWD/.venv/bin:$PATH"
python3 -m util.requirements || exit
exec python3 -m util.launch.reproduce "$@"
