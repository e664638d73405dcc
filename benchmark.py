"""Time and memory of methods: ``python -m benchmark speed``, ``memory``; ``--help`` lists the options."""

from util import requirements

if __name__ == "__main__":
    requirements.check()

from util import cli
from util.launch.benchmark import command

if __name__ == "__main__":
    cli.main(command)
