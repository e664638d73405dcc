"""Train encoder and base learner on the fold's base classes: ``python train_base.py config/<dataset>/<file>.yaml``."""

from util import requirements

if __name__ == "__main__":
    requirements.check()

from functools import partial

from util import cli
from util.train import stages

command = partial(stages.command, "base", __doc__)

if __name__ == "__main__":
    cli.main(command, training=True)
