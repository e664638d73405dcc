"""The documents refer to files, sections, scripts and paths that exist."""

import re
from pathlib import Path

import pytest

from tests.paths import REPOSITORY

README = REPOSITORY / "README.md"
DOCUMENTS = sorted(
    [
        *REPOSITORY.glob("*.md"),
        *(p for name in ("docs", "benchmark", "initmodel", "lists") for p in (REPOSITORY / name).rglob("*.md")),
    ]
)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
SCRIPT = re.compile(r"(?:\bpython|\bsh) (\w+\.(?:py|sh))\b")
MODULE = re.compile(r"\bpython -m ((?:util|benchmark)[\w.]*)")
PATH = re.compile(r"(?<![\w/.])((?:benchmark|config|docs|model|tests|util)/[\w./-]*)")
PLACEHOLDER = re.compile(r"[\w./-]*[<{*[][^\s`]*")  # such as config/<dataset>/
COMPOSED = re.compile(r"config/\w+/\w+_split\d_\w+\.yaml")  # composed where no such file exists
EXAMPLES = {"config/pascal/mine.yaml", "config/pets", "config/oxfordpet"}  # files that a reader makes


def _slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _anchors(document: Path) -> set[str]:
    return {_slug(heading) for heading in re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)}


def _names(documents: list[Path]) -> list[str]:
    return [str(d.relative_to(REPOSITORY)) for d in documents]


@pytest.mark.parametrize("document", DOCUMENTS, ids=_names(DOCUMENTS))
def test_relative_links_point_to_files_and_sections(document: Path):
    """Every relative link names a file that exists and, after a #, one of its headings."""
    for target, anchor in LINK.findall(document.read_text()):
        file = (document.parent / target).resolve() if target else document
        assert file.exists(), f"{document.name}: {target} does not exist"
        assert not anchor or anchor in _anchors(file), f"{document.name}: {target} has no section #{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=_names(DOCUMENTS))
def test_commands_and_paths_exist(document: Path):
    """Scripts and modules in commands, and paths in the repository's folders, exist."""
    text = document.read_text()
    for script in SCRIPT.findall(text):
        assert (REPOSITORY / script).exists(), f"{document.name}: {script} does not exist"
    for module in MODULE.findall(text):
        place = REPOSITORY / module.replace(".", "/")
        assert place.with_suffix(".py").exists() or place.is_dir(), f"{document.name}: no module {module}"
    for path in PATH.findall(PLACEHOLDER.sub(" ", text)):
        path = path.rstrip("./") if path.endswith((".", "/")) else path
        if path not in EXAMPLES and not COMPOSED.fullmatch(path):
            assert (REPOSITORY / path).exists(), f"{document.name}: {path} does not exist"


def test_readme_leads_to_every_document():
    """Every document in docs/ is linked from its index, which the README links."""
    index = REPOSITORY / "docs" / "README.md"
    assert "(docs/README.md)" in README.read_text()
    linked = {target for target, _ in LINK.findall(index.read_text())}
    assert {d.name for d in index.parent.glob("*.md")} - {index.name} <= linked
