"""Score a model on a fold's novel classes: ``python test.py config/<dataset>/<file>.yaml [--checkpoint FILE]``."""

from __future__ import annotations

from util import cli
from util.config import read_config
from util.engine.stages import test


def command() -> None:
    """Parse, build, call."""
    parser = cli.parser(__doc__)
    parser.add_argument("--checkpoint", help="same as --set test.checkpoint=...: best, last, none, or a file")
    options = parser.parse_args()
    if options.checkpoint:
        options.overrides.append(f"test.checkpoint={options.checkpoint}")
    test(read_config(options.config, options.overrides))


if __name__ == "__main__":
    cli.main(command)
