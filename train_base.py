"""Train encoder and base learner on the fold's base classes: ``python train_base.py config/<dataset>/<file>.yaml``."""

from util import cli
from util.train.stages import command

if __name__ == "__main__":
    cli.main(lambda: command("base", __doc__), training=True)
