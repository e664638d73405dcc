#!/bin/sh
# sh check.sh [--quick | --lowest] [pytest options]: sets up .venv, then checks format, lint, imports, types and runs the tests.
# It runs all of them, verifies the results in docs/results (of older code: "older"), and says at its end what failed.
#
# --quick leaves out the tests that start processes, train networks, replay measured cases or run
# benchmarks: those with a mark of pyproject.toml.
# --lowest runs the tests of --quick alone, in .venv-lowest: the oldest Python from 3.10 on that is here, with the
# lowest versions that requirements.txt allows. PYTHON names another. Run it before you change requirements.
set -e
cd "$(dirname "$0")"
quick="not process and not train and not parity and not benchmark"
export OMP_NUM_THREADS=1
unset PYTHONDONTWRITEBYTECODE PYTHONSAFEPATH  # with the latter Python would not find this folder

run_tests() { # MARKS [pytest options], with $environment
    marks=$1
    shift
    "$environment/bin/python" -m pytest -n "${TEST_PROCESSES:-2}" --dist worksteal -m "$marks" "$@"
}

install() { # PYTHON, then what to install, by pip
    [ -x "$environment/bin/python" ] || "$1" -m venv "$environment"
    shift
    echo "installing requirements into $environment (a few minutes the first time)"
    # Python compiles what it imports; all that the packages hold would take a minute.
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile "$@"
}

if [ "$1" = --lowest ]; then
    shift
    environment=.venv-lowest
    for python in ${PYTHON:-python3.10 python3.11 python3.12 python3}; do
        "$python" -m util.requirements 2>/dev/null && break
    done
    "$python" -m util.requirements
    [ -x "$environment/bin/python" ] || "$python" -m venv "$environment"
    if [ "$("$environment/bin/python" --version)" != "$("$python" --version)" ]; then
        echo "error: $environment has $("$environment/bin/python" --version), not $("$python" --version); remove it" >&2
        exit 2
    fi
    echo "the lowest packages with $("$python" --version); PYTHON=python3.10 before the command asks for this one"
    install "$python" uv
    grep pytest tests/requirements.txt >"$environment/tests.txt"
    "$environment/bin/uv" pip install --quiet --python "$environment/bin/python" --resolution lowest-direct \
        -r requirements.txt -r "$environment/tests.txt"
    run_tests "$quick" "$@"
    exit
fi

marks=""
if [ "$1" = --quick ]; then
    marks=$quick
    shift
fi
environment=.venv
[ -x .venv/bin/python ] || python3 -m util.requirements
install python3 -r tests/requirements.txt

failed=""
check() { # NAME COMMAND...
    name=$1
    shift
    "$@" || failed="$failed $name"
}
check format .venv/bin/python -m ruff format --check .
check lint .venv/bin/python -m ruff check .
check imports .venv/bin/lint-imports --no-logo --no-cache
types=$(mktemp)
.venv/bin/python -m mypy >"$types" 2>&1 & # beside the tests
mypy=$!
check tests run_tests "$marks" "$@"
check types wait "$mypy"
cat "$types"
check records .venv/bin/python report.py verify docs/results >"$types"
case "$failed" in
*records) cat "$types" ;;
*) awk -v RS= '{ last = $0 } END { print "docs/results: " last }' "$types" ;; # how many have which verdict
esac
rm "$types"
if [ -n "$failed" ]; then
    echo "failed:$failed" >&2
    exit 1
fi
