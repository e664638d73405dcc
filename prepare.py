"""Prepare data: ``python prepare.py COMMAND``, such as ``pascal`` or ``custom``."""

import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:
    sys.path.insert(0, str(Path(__file__).parent))  # which PYTHONSAFEPATH leaves out

from util import requirements

if __name__ == "__main__":
    requirements.check()

from datasets import custom, embeddings
from datasets.make import MakeCommand
from datasets.recipes import recipes
from util import cli
from util.data import mini

COMMANDS = {
    **{name: MakeCommand(recipe) for name, recipe in recipes().items()},
    **{"embeddings": embeddings, "mini": mini, "custom": custom},
}


def command() -> int:
    """Run the sub-command of the command line and return its exit code."""
    return cli.run_one_of(COMMANDS, __doc__)


if __name__ == "__main__":
    cli.main(command, writes_files=True)
