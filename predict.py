"""Segment in photos the objects annotated on others: ``python predict.py --checkpoint C --support P:M --query Q``."""

import os
import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:
    sys.path.insert(0, str(Path(__file__).parent))  # which PYTHONSAFEPATH leaves out

from util import requirements

if __name__ == "__main__":
    requirements.check()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # beside other programs waiting threads must not spin

from photos.command import command
from util import cli

if __name__ == "__main__":
    cli.main(lambda: command(sys.argv[1:]), writes_files=True)
