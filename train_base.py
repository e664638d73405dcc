"""Train encoder and base learner on the fold's base classes: ``python train_base.py config/<dataset>/<file>.yaml``."""

from util import cli
from util.config import command_line
from util.train.stages import train_base


def command() -> int:
    """Parse, build, call."""
    parser = command_line.parser(__doc__)
    cli.add_training_options(parser)
    options = parser.parse_args()
    if command_line.show(options):
        return 0
    config, allow_changes = command_line.read(options), options.allow_changes
    return train_base(config, options.resume, options.overwrite, allow_changes=allow_changes)


if __name__ == "__main__":
    cli.main(command, training=True)
