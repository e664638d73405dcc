"""Meta-train a model in episodes of the fold's base classes: ``python train.py config/<dataset>/<file>.yaml``."""

from util import cli
from util.config import command_line
from util.train.stages import train_meta


def command() -> int:
    """Parse, build, call."""
    parser = command_line.parser(__doc__)
    cli.add_training_options(parser)
    parser.add_argument("--checkpoint", help="base-stage checkpoint to start from, instead of this run's own")
    options = parser.parse_args()
    if command_line.show(options):
        return 0
    return train_meta(
        command_line.read(options), options.resume, options.overwrite, options.checkpoint, options.allow_changes
    )


if __name__ == "__main__":
    cli.main(command, training=True)
