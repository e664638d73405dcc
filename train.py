"""Meta-train a model in episodes of the fold's base classes: ``python train.py config/<dataset>/<file>.yaml``."""

from util import cli
from util.train.stages import command

if __name__ == "__main__":
    cli.main(lambda: command("meta", __doc__), training=True)
