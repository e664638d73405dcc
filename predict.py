"""Segment in photos the objects annotated on others: ``python predict.py --checkpoint C --support P:M --query Q``."""

import os

from util import requirements

if __name__ == "__main__":
    requirements.check()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # beside other programs waiting threads must not spin

import sys

from photos.command import command
from util import cli

if __name__ == "__main__":
    cli.main(lambda: command(sys.argv[1:]), writes_files=True)
