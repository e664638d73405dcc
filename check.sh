#!/bin/sh
# sh check.sh [--quick] [pytest options]: sets up .venv, then checks format, lint, types and runs the tests.
# --quick leaves out the tests that start processes, train, compile or export networks, replay measured cases or run
# benchmarks: those with a mark of pyproject.toml.
set -e
cd "$(dirname "$0")"
marks=""
[ "$1" = --quick ] && { marks="not process and not train and not parity and not compile and not benchmark"; shift; }
[ -x .venv/bin/python ] || python3 -m venv .venv
echo "installing requirements into .venv (a few minutes the first time)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
.venv/bin/python -m ruff format --check .
.venv/bin/python -m ruff check .
.venv/bin/python -m mypy
exec env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n "${TEST_PROCESSES:-2}" --dist worksteal -m "$marks" "$@"
