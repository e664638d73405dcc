"""Meta-train a model in episodes of the fold's base classes: ``python train.py config/<dataset>/<file>.yaml``."""

from util import requirements

if __name__ == "__main__":
    requirements.check()

from functools import partial

from util import cli
from util.train import stages

command = partial(stages.command, "meta", __doc__)

if __name__ == "__main__":
    cli.main(command, training=True)
