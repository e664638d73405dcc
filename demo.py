"""Sym-Net from nothing to a table: draw a data set, train both stages, test beside two baselines, find an object."""

from __future__ import annotations

from pathlib import Path

from util import cli
from util.demo import run


def command() -> int:
    """Parse, call."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--fold", type=int, default=0, help="the fold, whose two of the eight classes are novel")
    parser.add_argument("--folder", default="runs/demo", help="the folder of data, runs and the picture")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    options = parser.parse_args()
    return run(Path(options.folder), options.fold, options.overrides)


if __name__ == "__main__":
    cli.main(command)
