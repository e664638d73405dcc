#!/bin/sh
# sh check.sh [--quick] [pytest options]: sets up .venv, then checks format, lint, types and runs the tests.
# --quick leaves out the tests that start processes, train networks or replay measured cases.
set -e
cd "$(dirname "$0")"
marks=""
[ "$1" = --quick ] && { marks="not process and not train and not parity"; shift; }
[ -x .venv/bin/python ] || python3 -m venv .venv
echo "installing requirements into .venv (a few minutes the first time)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
.venv/bin/python -m ruff format --check .
.venv/bin/python -m ruff check .
.venv/bin/python -m mypy
exec env OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n "${TEST_PROCESSES:-2}" --dist worksteal -m "$marks" "$@"
