"""Meta-train a model in episodes of the fold's base classes: ``python train.py config/<dataset>/<file>.yaml``."""

from __future__ import annotations

from util import cli
from util.config.read import read_config
from util.engine.training import train_meta


def command() -> int:
    """Parse, build, call."""
    parser = cli.parser(__doc__)
    cli.add_training_options(parser)
    parser.add_argument("--checkpoint", help="base-stage checkpoint to start from, instead of this run's own")
    options = parser.parse_args()
    config = read_config(options.config, options.overrides)
    return train_meta(config, options.resume, options.overwrite, options.checkpoint)


if __name__ == "__main__":
    cli.main(command)
