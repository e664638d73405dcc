"""The folder of all configs: where it lies, and the data sets, methods and encoders that have a file there."""

from pathlib import Path

from util.files.project import REPOSITORY

LOCAL = Path("config")  # in the working folder
DEFAULT = LOCAL / "default.yaml"
MAIN_METHOD = "symnet"  # not part of its runs' names
TIMM = "timm"  # the name of the file for all networks of timm


def config_folder() -> Path:
    """Return the folder of all configs: ``config`` of the working folder if it exists, else the project's."""
    return LOCAL if (LOCAL / "model" / f"{MAIN_METHOD}.yaml").exists() else REPOSITORY / "config"


def in_configs(path: Path) -> Path:
    """Return where a file ``config/...`` lies: in the working folder, or where that lacks it, in the project."""
    return config_folder() / path.relative_to(LOCAL) if path.is_relative_to(LOCAL) and not path.exists() else path


def data_file(dataset: str) -> Path:
    """Return the file of a data set."""
    return config_folder() / dataset / f"{dataset}.yaml"


def method_file(method: str) -> Path:
    """Return the file of a method, which is for every data set."""
    return config_folder() / "model" / f"{method}.yaml"


def data_sets() -> list[str]:
    """Return the names of all data sets."""
    return sorted(path.stem for path in config_folder().glob("*/*.yaml") if path.stem == path.parent.name)


def method_names() -> list[str]:
    """Return the names of all methods."""
    return sorted(path.stem for path in config_folder().glob("model/*.yaml"))


def encoders() -> list[str]:
    """Return the names of all encoders but timm's."""
    return sorted(path.stem for path in config_folder().glob("encoder/*.yaml") if path.stem != TIMM)
