"""Where the project is: its folder, and files that are named from it."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def project_path(name: str | Path) -> Path:
    """Return the path of a file of the project: as written, or in the project's folder if it is only there."""
    path = Path(name)
    in_project = REPOSITORY / path
    return in_project if in_project.exists() and not path.exists() else path
