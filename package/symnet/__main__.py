"""The command ``symnet``: ``symnet train split0 pascal 4``, ``symnet predict serve``; ``symnet --help`` lists all."""

import runpy
import sys
from functools import partial
from pathlib import Path

import symnet
from symnet.names import COMMANDS
from symnet.util import cli
from symnet.util.files.errors import UserError

PLACE = Path(symnet.__path__[-1])  # of the folders
ARGUMENTS_OF_LAUNCH = 3  # experiment, data set, GPUs; a script takes a config, or experiment and data set


def main() -> None:
    """Run the command that the first argument names with all others."""
    name, *arguments = sys.argv[1:] or ["--help"]
    asks_for_help = not arguments or {"-h", "--help"} & {*arguments}
    if name not in COMMANDS:
        cli.main(partial(_about, name))
    elif asks_for_help and (PLACE / f"{name}.sh").exists():
        cli.main(partial(_print_head, PLACE / f"{name}.sh"))
    else:
        _run(name, arguments)


def _about(asked: str) -> None:
    """Print the version or the commands; UserError: it asks for neither."""
    if asked == "--version":
        print(f"Sym-Net {symnet.__version__}")
    elif asked in ("-h", "--help"):
        print(f"usage: symnet COMMAND ...; symnet COMMAND --help tells more\ncommands: {', '.join(COMMANDS)}")
    else:
        raise UserError(f"symnet {asked}: no such command; there are {', '.join(COMMANDS)}")


def _print_head(script: Path) -> None:
    """Print the head of a shell script, which is its help."""
    head, _, _ = script.read_text(encoding="utf-8").partition("\ncase ")
    print("\n".join(line[2:] for line in head.splitlines()[1:]))


def _run(name: str, arguments: list[str]) -> None:
    """Run a command; ``train`` and ``test`` of an experiment on some GPUs are what the shell scripts of the name do."""
    first_option = next((i for i, argument in enumerate(arguments) if argument.startswith("-")), len(arguments))
    module = name
    if name in ("train", "test") and first_option >= ARGUMENTS_OF_LAUNCH:
        module = "util.launch"
        arguments = [name, *arguments]
    sys.argv = [f"symnet {name}", *arguments]
    runpy.run_module(f"symnet.{module}", run_name="__main__")


if __name__ == "__main__":
    main()
