"""The package ``symnet`` as pip installs it, in a folder whose own packages ``model`` and ``util`` end the process."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers.method_of_mine import METHOD
from tests.helpers.paths import REPOSITORY
from tests.test_imports import imported_by

pytestmark = pytest.mark.process
FOLDERS = {"annotations", "datasets", "model", "photos", "util"}
TYPED = re.compile(r"\b(?:python|sh) (?:train|test|report|prepare|predict|benchmark)\b")
PAGE_OF_CLONE = re.compile(r"[ (](?:\w+/)?\w+\.md\b(?! in the repository)")  # the package holds none of docs/
SEGMENT = """
from symnet import Segmenter, UserError

segmenter = Segmenter({"coin": [("coins_1.jpg", "box=40,40,120,120")]}, side=129, device="cpu")
segmenter("coins_2.jpg").save("found", "coins")
try:
    segmenter("gone.jpg")
except UserError as error:
    print(error)
"""
TRAIN = """
import sys
from symnet.__main__ import main

sys.argv = ["symnet", "train", "lab/mine.yaml", "mini", "0"]
main()
"""


class Installed(NamedTuple):
    """An environment with the package, and a folder to work in."""

    programs: Path
    package: Path
    folder: Path

    def run(self, *words: object, **variables: str) -> subprocess.CompletedProcess:
        """Run a program of the environment in the folder to its end."""
        command = [self.programs / str(words[0]), *map(str, words[1:])]
        return subprocess.run(command, cwd=self.folder, env=os.environ | variables, capture_output=True, text=True)

    def files(self) -> set[Path]:
        return {path for path in self.package.rglob("*") if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Return the wheel of this repository, installed beside the packages of this Python."""
    place = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", place, REPOSITORY], check=True)
    venv.create(place / "env", symlinks=True)
    (wheel,) = place.glob("symnet-*.whl")
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": f"{place}/env"}))
    (packages / "of_this_python.pth").write_text(sysconfig.get_path("purelib"))
    pip += ["--python", place / "env/bin/python"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", wheel], check=True)
    folder = place / "work"  # in a repository of another project
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.org", "-C", place]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    for name in ("model", "util"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text('raise SystemExit("a package of another project")\n')
    for path in (REPOSITORY / "photos/page/example").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return Installed(place / "env/bin", packages / "symnet", folder)


def test_imports_files_and_texts_are_of_the_package(installed: Installed) -> None:
    package = installed.package
    assert names_in(package / "photos/page") == names_in(REPOSITORY / "photos/page")
    assert names_in(package) >= {*FOLDERS, "config", "lists"}
    assert names_in(package / "initmodel") > {"word2vec_pascal.npz", "word2vec_coco.npz"}
    sources = [path for path in installed.files() if path.suffix == ".py"]
    assert len(sources) > 200
    for source in sources:
        text = source.read_text()
        assert FOLDERS.isdisjoint(name.partition(".")[0] for name in imported_by(ast.walk(ast.parse(text)))), source
        assert source.parent == package or not TYPED.search(text), source
        assert not PAGE_OF_CLONE.search(text), source


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"__pycache__"}


def test_version_help_and_mistakes(installed: Installed) -> None:
    (version,) = re.findall('^version = "(.*?)"', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    said = installed.run(
        "python", "-c", "import symnet; assert 'Segmenter' in dir(symnet); print(symnet.__version__)"
    ).stdout
    assert said == f"{version}\n"
    assert installed.run("symnet", "test", "--version").stdout == f"Sym-Net {version}\n"
    assert installed.run("symnet", "train", "--help").stdout.startswith("symnet train EXPERIMENT DATASET GPUS")
    unknown = installed.run("symnet", "trian")
    assert unknown.returncode == 2 and unknown.stderr.startswith("error: symnet trian: no such command")


CONFIG_OF_MINE = """
base: [config/model/ssp.yaml, config/mini/mini.yaml, config/encoder/lite0.yaml]
imports: [mine.py]
model: {name: ssp_of_mine}
data: {root: ROOT, text: none, size: 65, min_pixels: 50, modalities: {grey: grey_of_mine}}
meta_stage: {epochs: 1, epoch_length: 6, batch: 2, validate_every: 0}
"""


def test_a_photo_is_segmented_and_a_method_of_another_repository_is_trained(
    installed: Installed, mini_root: Path
) -> None:
    """The method is one file and one config in a folder of its own; nothing is written into the package."""
    before = installed.files()
    lab = installed.folder / "lab"
    lab.mkdir()
    (lab / "mine.py").write_text(METHOD)
    (lab / "mine.yaml").write_text(CONFIG_OF_MINE.replace("ROOT", str(mini_root)))
    ended = installed.run("python", "-c", SEGMENT + TRAIN)  # in one process, whose imports take seconds
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (installed.folder / "found/coins_mask.png").is_file()
    assert ended.stdout.startswith("gone.jpg: this photo does not exist"), ended.stdout
    assert "method: SSP (ssp_of_mine), model.name ssp_of_mine, class OfMine of mine" in ended.stdout + ended.stderr
    trained = installed.folder / "runs/mine/meta"
    assert (trained / "best.pth").is_file()
    assert '"commit": "unknown"' in (trained / "environment.json").read_text()
    assert '"step": 3' in (trained / "metrics.json").read_text()
    assert installed.files() == before
