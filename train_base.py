"""Train encoder and base learner on the fold's base classes: ``python train_base.py config/<dataset>/<file>.yaml``."""

from __future__ import annotations

from util import cli
from util.config.read import read_config
from util.engine.training import train_base


def command() -> int:
    """Parse, build, call."""
    parser = cli.parser(__doc__)
    cli.add_training_options(parser)
    options = parser.parse_args()
    return train_base(read_config(options.config, options.overrides), options.resume, options.overwrite)


if __name__ == "__main__":
    cli.main(command)
