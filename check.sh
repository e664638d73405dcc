#!/bin/sh
# Sets everything up in .venv, then checks format and lint and runs the tests.
set -e
cd "$(dirname "$0")"
[ -x .venv/bin/python ] || python3 -m venv .venv
echo "installing requirements into .venv (a few minutes the first time)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
.venv/bin/python -m ruff format --check .
.venv/bin/python -m ruff check .
exec .venv/bin/python -m pytest "$@"
