"""The shell commands in Python: one run, and all runs of a table."""

from util.files import REPOSITORY


def program(name: str) -> list[str]:
    """Return the arguments of Python that run a command such as ``train``: its file, or its module of the package."""
    package, _, _ = __name__.rpartition("util.launch")
    return ["-m", f"{package}{name}"] if package else [str(REPOSITORY / f"{name}.py")]
