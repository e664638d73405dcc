"""The build backend: setuptools, on a folder that holds the package ``symnet`` with all that belongs to it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from setuptools import build_meta

from symnet.names import COMMANDS, FOLDERS, with_commands, with_imports

build_editable = build_meta.build_editable  # its modules are those of the clone
PACKAGE = Path("package/symnet")
DATA = ("config", "lists")
HEADS = ("train.sh", "test.sh")  # whose heads are the help of these commands
SHIPPED = tuple(
    f"initmodel/{name}" for name in ("pocket_lite0_voc.safetensors", "word2vec_pascal.npz", "word2vec_coco.npz")
)
TEXTS = (".py", ".sh", ".yaml", ".md")
PROJECT = ("pyproject.toml", "README.md", "LICENSE", "requirements.txt")


def build_wheel(wheel_directory: str, config_settings: object = None, metadata_directory: object = None) -> str:
    """Build the wheel; the arguments are those of PEP 517."""
    target = str(Path(wheel_directory).resolve())
    with _staged():
        return build_meta.build_wheel(target, config_settings)


def build_sdist(sdist_directory: str, config_settings: object = None) -> str:
    """Build an archive of the sources, which holds the package as the wheel does."""
    target = str(Path(sdist_directory).resolve())
    with _staged():
        return build_meta.build_sdist(target, config_settings)


@contextmanager
def _staged() -> Iterator[None]:
    """Make a folder with the package current; nothing is written into the clone."""
    clone = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        for name in PROJECT:
            shutil.copy(name, folder)
        for path in _files():
            _copy(path, Path(folder, path if path.is_relative_to(PACKAGE) else PACKAGE / path))
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(clone)


def _files() -> Iterator[Path]:
    """Yield the files of the package; of an archive of the sources those in its folder are all."""
    yield from (path for path in PACKAGE.rglob("*") if _belongs(path))
    if Path(FOLDERS[0]).is_dir():
        yield from map(Path, ("pyproject.toml", *SHIPPED, *HEADS, *(f"{name}.py" for name in COMMANDS)))
        for folder in (*FOLDERS, *DATA):
            yield from (path for path in Path(folder).rglob("*") if _belongs(path))


def _belongs(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and "__pycache__" not in path.parts


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix not in TEXTS:
        shutil.copy(source, target)
        return
    text = with_imports(source.read_text(encoding="utf-8"))
    if not source.is_relative_to(PACKAGE):
        text = with_commands(text)
    target.write_text(text, encoding="utf-8")
