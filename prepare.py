"""Prepare data: ``python prepare.py COMMAND``, such as ``pascal`` or ``custom``."""

from util import requirements

if __name__ == "__main__":
    requirements.check()

import sys

from datasets import custom, embeddings
from datasets.make import MakeCommand
from datasets.recipes import recipes
from util import cli
from util.data import mini
from util.files.errors import UserError

COMMANDS = {
    **{name: MakeCommand(recipe) for name, recipe in recipes().items()},
    **{"embeddings": embeddings, "mini": mini, "custom": custom},
}


def command() -> int:
    """Run the sub-command of the command line and return its exit code."""
    if sys.argv[1:2] == ["check"]:
        raise UserError("check is gone: sh train.sh EXPERIMENT DATASET GPUS --dry-run says all that is missing")
    return cli.run_one_of(COMMANDS, __doc__)


if __name__ == "__main__":
    cli.main(command)
