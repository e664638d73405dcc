"""Files, sections, options and settings that documents name exist; one version is stated, and all documents are linked.

``test_documents_run.py`` runs the code of the tutorials, ``datasets/test_custom.py`` that of ``datasets/recipes``.
"""

import re
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from datasets.recipes import recipes
from tests.helpers.paths import REPOSITORY
from util.config.bam import TODAY
from util.config.read import read_config

README = REPOSITORY / "README.md"
DOCUMENTS = sorted(
    p
    for form in (
        "*.md",
        "docs/**/*.md",
        "initmodel/*.md",
        "datasets/**/*.md",
        "lists/**/*.md",
        ".github/CONTRIBUTING.md",
    )
    for p in REPOSITORY.glob(form)
)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
FOLDERS = "annotations|config|docs|model|tests|util"
PATH = re.compile(rf"(?<![\w/.])((?:{FOLDERS})/[\w./-]*|requirements[\w-]*\.txt)")
PLACEHOLDER = re.compile(r"[\w./-]*[<{*[][^\s`]*")  # such as config/<dataset>/
# Files and a method that a reader makes.
EXAMPLES = {"config/pascal/mine.yaml", "config/pets", "config/oxfordpet", "model/mine.py", "config/model/mine.yaml"} | {
    "config/laptop/mine.yaml"
}
CONFIG = "config/pascal/pascal_split0_resnet50.yaml"  # in place of the word CONFIG
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
DECLARED = re.compile(r"\(\s*\"(--[\w-]+)\"")  # by argparse or a name for its add_argument
SETTING = re.compile(r"`(?:--set )?(run|data|base_stage|meta_stage|test)\.(?!yaml|py|sh)(\w+)")
# Options of check.sh, reproduce.sh, argparse, pip, uv, Slurm, torchrun and a published program.
OTHERS = {
    "--quick",
    "--lowest",
    "--help",
    "--index-url",
    "--from",
    "--array",
    "--nodes",
    *("--nnodes", "--nproc-per-node", "--rdzv-backend", "--rdzv-endpoint"),
    *("--models", "--seeds", "--folds"),
    "--kill-on-bad-exit",
    "--eposide",
    "--sync-tensorboard",
}


def _anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_files_sections_and_paths_that_a_document_names_exist(document: Path) -> None:
    text = document.read_text()
    for target, anchor in LINK.findall(text):
        file = (document.parent / target).resolve() if target else document
        assert file.exists(), f"{target} does not exist"
        assert not anchor or anchor in _anchors(file), f"{target} has no section #{anchor}"
    for path in PATH.findall(PLACEHOLDER.sub(" ", text)):
        path = path.rstrip("./") if path.endswith((".", "/")) else path
        assert path in EXAMPLES or (REPOSITORY / path).exists(), f"{path} does not exist"


def test_options_and_settings_exist():
    """A program of the project declares each option, and a run's config has each setting that a document names."""
    config = read_config(REPOSITORY / CONFIG)
    known = set(OTHERS)
    for pattern in ("*.py", "datasets/**/*.py", "photos/**/*.py", "util/**/*.py", "tests/**/*.py"):
        for source in REPOSITORY.glob(pattern):
            known.update(DECLARED.findall(source.read_text()))
    for recipe in recipes().values():
        known.update(f"--{option}" for option in recipe.given)
    for document in DOCUMENTS:
        if document.name == "CHANGELOG.md":
            continue  # names what went
        text = re.sub("^#SBATCH .*", "", document.read_text(), flags=re.M)
        assert set(OPTION.findall(text)) <= known, document.name
        for section, key in SETTING.findall(text):
            assert hasattr(getattr(config, section), key), f"{document.name}: {section}.{key} does not exist"


def test_one_version_is_stated_everywhere():
    """``pyproject.toml``, ``CITATION.cff`` and the newest entry of ``CHANGELOG.md`` state the same version and date."""
    version = re.search(r'^version = "([\d.]+)"', (REPOSITORY / "pyproject.toml").read_text(), re.M).group(1)
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    newest, date = re.search(r"^## ([\d.]+), (.*)$", (REPOSITORY / "CHANGELOG.md").read_text(), re.M).groups()
    assert citation["version"] == newest == version
    assert datetime.strptime(date, "%d %B %Y").date() == citation["date-released"]


def test_readme_leads_to_every_document():
    """README links the index of docs/, which links every document below it."""
    assert "(docs/README.md)" in README.read_text()
    index = REPOSITORY / "docs/README.md"
    linked = {target for target, _ in LINK.findall(index.read_text())}
    documents = {
        d.relative_to(index.parent).as_posix() for form in ("*.md", "*.ipynb") for d in index.parent.rglob(form)
    }
    assert documents - {index.name} <= linked


def test_every_key_of_bam_that_an_error_explains_is_on_its_page() -> None:
    text = (REPOSITORY / "docs/from_bam.md").read_text()
    assert [key for key in TODAY if f"`{key}`" not in text] == []
