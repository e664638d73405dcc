#!/bin/sh
# sh reproduce.sh DATASET NET GPUS [options]
#
# Trains and tests all methods, folds and shots of one table by train.sh and test.sh, and prints the table. These skip
# what is finished: after an interruption run it again.
#
#   DATASET   such as pascal, coco, mini
#   NET       the encoder, such as resnet50
#   GPUS      number of GPUs on this machine, with a process for each; 0 is the CPU
#
#   --models symnet,ssp   methods, or your own files as in train.sh; default: the environment variable MODEL, or symnet
#   --shot 1,5            numbers of supports
#   --seeds 1,2,3         a training for each seed, in runs/seed1 and so on; the table has their mean and deviation
#   --folds 0,1           folds; default: all
#   --protocol NAME       test procedure; default: test.protocol of the first method's config
#   --set KEY=VALUE       override a setting of all trainings and tests; may be repeated
#   --dry-run             only check all trainings before their first step: the stages and all that would stop them
#
#   sh reproduce.sh pascal resnet50 8 --models symnet,ssp --dry-run
#   sh reproduce.sh pascal lite0 0 --models pocket
case "$# $* " in "0 "* | *" -h "* | *" --help "*) exec sed -n '2,/^case/s/^# \{0,1\}//p' "$0" ;; esac
cd "$(dirname "$0")" || exit 1
unset PYTHONSAFEPATH  # with which Python would not find this folder
[ -x .venv/bin/python ] && PATH="$PWD/.venv/bin:$PATH"

refuse() {
    echo "error: $1; sh reproduce.sh --help tells more" >&2
    exit 2
}
case "${3:-}" in "" | *[!0-9]*) refuse "'${3:-}' is no number of GPUs: name DATASET NET GPUS, such as pascal resnet50 4" ;; esac
dataset=$1 net=$2 gpus=$3
encoder=$(echo "$net" | tr / _)
shift 3
models=${MODEL:-symnet} shots=1,5 seeds=none folds="" protocol="" runs=runs only_check=no
words=$#
while [ "$words" -gt 0 ]; do # the overrides are what is left of "$@"
    option=$1
    shift
    words=$((words - 1))
    [ "$option" = --dry-run ] && only_check=yes && continue
    [ "$words" -gt 0 ] && [ -n "${1#,}" ] || refuse "$option: unknown, or without a value"
    case $option in
        --models) models=$1 ;;
        --shot) shots=$1 ;;
        --seeds) seeds=$1 ;;
        --folds) folds=$1 ;;
        --protocol) protocol=$1 ;;
        --set) case $1 in run.folder=*) runs=${1#run.folder=} ;; *) set -- "$@" --set "$1" ;; esac ;;
        *) refuse "$option: unknown" ;;
    esac
    shift
    words=$((words - 1))
done

launch() { # train|test DATASET [options]: of the method, fold, seed and shots at hand; sets the run's folder and name
    script=$1 on=$2 folder=$runs name=${2}_split${fold}_${model}_$encoder
    shift 2
    if [ "$seed" != none ]; then
        folder=$runs/seed$seed
        set -- "$@" --set run.seed="$seed" --set run.base_folder="$folder/${on}_split${fold}_$encoder/base"
    fi
    [ "$model" != symnet ] || name=${on}_split${fold}_$encoder
    [ -f "config/model/$model.yaml" ] || name=$(basename "$model" .yaml)_split$fold
    set -- "$@" --set run.folder="$folder" --set run.name="$name" --set data.shot="$shot"
    if [ -f "config/model/$model.yaml" ]; then
        MODEL=$model NET=$net sh "$script.sh" "split$fold" "$on" "$gpus" "$@"
    else # an own file
        (unset MODEL NET && sh "$script.sh" "$model" "$on" "$gpus" "$@" --set data.fold="$fold")
    fi
}
score() { # DATASET [options]: test on it, and note where the result is
    launch test "$@" --protocol "$protocol" || exit
    results="$results$folder/$name/test*
"
}
score_elsewhere() { # [options]: the same on the data sets that are tested in place of the one that was trained on
    best=$folder/$name/meta/best.pth
    [ ! -f "$folder/$name/meta_${shot}shot/best.pth" ] || best=$folder/$name/meta_${shot}shot/best.pth
    [ ! -f "$best" ] || set -- "$@" --set test.checkpoint="$best" --set test.trained_on="$trained_on"
    for other in $(list "$others"); do score "$other" "$@"; done
}
list() { echo "$1" | tr , ' '; }
import_of() { # [options]: note the code that an own file imports, for the table, a path a line
    files=$(launch test "$dataset" "$@" --print-whole-config | sed -n 's/^imports: \[\([^]]*\)\].*/\1/p' | tr , '\n')
    imports="$imports$(echo "$files" | sed -n "s/^ *'*\([^']*[^' ]\).*/--import=\1/p")
"
}
setting() { # SECTION NAME: its value in the first method's config
    printf '%s\n' "$config" | sed -n "/^$1:/,/^[a-z]/s/^  $2: *\([^#]*[^# ]\).*/\1/p" | tr -d '[] '
}
case $runs in "~/"*) runs=$HOME/${runs#"~/"} ;; esac
said_once() { # what it is given, but of equal errors the first; it ends with the last "exit code N" in it
    awk '/^exit code [0-9]+$/ { code = $3; next }
        /^error: / { if (!said[$0]++) print > "/dev/stderr"; next }
        { print; fflush() }
        END { exit code }'
}
seed=none shot=1 fold=${folds%%,*} config=""
fold=${fold:-0}
for model in $(list "$models"); do # wrong names are refused before any index is built
    of_method=$(launch test "$dataset" "$@" --print-whole-config) || exit
    config=${config:-$of_method}
done
protocol=${protocol:-$(setting test protocol)}
read_again() { launch test "$dataset" "$@" --print-config >/dev/null || exit; }
for model in $(list "$models"); do
    for one in $(list "$protocol"); do read_again "$@" --set test.protocol="$one"; done
done
model=${models%%,*}
for shot in $(list "$shots"); do read_again "$@"; done
for seed in $(list "$seeds"); do read_again "$@"; done
for fold in $(list "$folds"); do read_again "$@"; done
folds=${folds:-$(seq -s , 0 $(($(setting data folds) - 1)))}
others=""
[ "$dataset" != crossdomain ] || others=fss1000,deepglobe,isic,chestxray
trained_on=$(setting data name)
for other in $(list "$others"); do
    config=$(launch test "$other" "$@" --print-whole-config) || exit
    root=$(setting data root)
    [ -d "$root" ] || refuse "$root: this data folder does not exist; set data.root, or make it by prepare.py $other"
done
league="" imports=""
if [ "$dataset" = laptop ]; then
    league=--league
    [ "$protocol" = symnet ] || refuse "--protocol $protocol: the league's is symnet"
fi

each() { # check|run [options]: for each training
    step=$1
    shift
    for seed in $(list "$seeds"); do for model in $(list "$models"); do for fold in $(list "$folds"); do
        for shot in $(list "$shots"); do "$step" "$@"; done
    done; done; done
}
check() {
    [ "$seed" = none ] || echo "seed $seed, in $runs/seed$seed:"
    launch train "$dataset" "$@" --resume --dry-run $league || echo "exit code $?"
}
run() {
    [ -f "config/model/$model.yaml" ] || import_of "$@"
    launch train "$dataset" "$@" --resume || exit
    if [ -z "$others" ]; then score "$dataset" "$@"; else score_elsewhere "$@"; fi
}
results=""
each check "$@" 2>&1 | said_once || exit
[ "$only_check" = no ] || exit 0
each run "$@"
if [ "$dataset" = laptop ]; then set -- --rows league "$@"; else set --; fi
IFS='
'
# shellcheck disable=SC2086  # a path a line
python3 report.py table $results $imports --protocol "$protocol" "$@"
