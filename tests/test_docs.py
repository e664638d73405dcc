"""Files, sections and scripts that documents name exist; commands that are not run parse, their configs can be read.

``test_documents_run.py`` runs the code of the tutorials, ``datasets/test_custom.py`` that of ``datasets/recipes``.
"""

import argparse
import ast
import re
import shlex
import string
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

import predict
import prepare
import report
import test as scoring
import train
from datasets.recipes import recipes
from tests.helpers.paths import REPOSITORY
from tests.test_documents_run import DOCUMENTS as RUN_IN_A_COPY
from util import benchmark
from util.config import command_line
from util.config.read import read_config
from util.launch import read_words

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
RUN = {REPOSITORY / f"{name}.md" for name in RUN_IN_A_COPY}
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
FOLDERS = "annotations|config|docs|model|tests|util"
PATH = re.compile(rf"(?<![\w/.])((?:{FOLDERS})/[\w./-]*|requirements[\w-]*\.txt)")
PLACEHOLDER = re.compile(r"[\w./-]*[<{*[][^\s`]*")  # such as config/<dataset>/
# Files, data sets and a method that a reader makes.
EXAMPLES = {"config/pascal/mine.yaml", "config/pets", "config/oxfordpet", "model/mine.py", "config/model/mine.yaml"}
MADE = {"birds", "cups", "lvis92i", "mine", "oxfordpet", "pets"}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
INLINE = re.compile(r"`((?:[A-Z]+=\S+ )*(?:python|sh) [^`]+)`")
ASSIGNED = re.compile(r"[A-Z]+=")
UNNAMED = re.compile(r"\.\.\.|<|--help|\b(?:RUNS|FILE|FOLDER|NAME|PATH)\b")  # of commands that a reader completes
CONFIG = "config/pascal/pascal_split0_resnet50.yaml"  # in place of the word CONFIG
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
DECLARED = re.compile(r"\(\s*\"(--[\w-]+)\"")  # by argparse or a name for its add_argument
SETTING = re.compile(r"`(?:--set )?(run|data|base_stage|meta_stage|test)\.(?!yaml|py|sh)(\w+)")
PROGRAMS = {
    **dict.fromkeys(("train.sh", "train.py"), train.command),
    **dict.fromkeys(("test.sh", "test.py"), scoring.command),
    **{"prepare.py": prepare.command, "predict.py": predict.command},
    **{"report.py": report.command, "util.benchmark": benchmark.command},
}
WITHOUT_OPTIONS = ("check.sh", "demo.sh", "reproduce.sh", "pytest", "venv")
# Options of check.sh, reproduce.sh, argparse, pip, uv, Slurm, torchrun and a published program.
OTHERS = {
    "--quick",
    "--lowest",
    "--help",
    "--index-url",
    "--from",
    "--array",
    "--nodes",
    "--nproc-per-node",
    *("--models", "--seeds", "--folds"),
    "--kill-on-bad-exit",
    "--eposide",
    "--sync-tensorboard",
}


def _anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def _blocks(document: Path, language: str) -> list[str]:
    return [text for of_language, text in BLOCK.findall(document.read_text()) if of_language == language]


def _commands(document: Path) -> Iterator[list[str]]:
    """Yield the words of the commands of a document's sentences, and of its blocks if these are not run."""
    text = document.read_text()
    sentences = INLINE.findall(re.sub(r"\s+", " ", BLOCK.sub(" ", text)))
    lines = [line for line in sentences if not UNNAMED.search(line)]
    if document not in RUN:
        for script in _blocks(document, "sh"):
            lines += re.split(r"\n|&&|>.*", script.replace("\\\n", " "))
    variables = {"CONFIG": CONFIG}
    for line in lines:
        words = [string.Template(word).safe_substitute(variables) for word in shlex.split(line, comments=True)]
        if words and all(ASSIGNED.match(word) for word in words):
            variables |= dict(word.split("=", 1) for word in words)
        elif words:
            yield [variables.get(word, word) for word in words]


class _Parsed(Exception):
    """The options of a command, which is then not run."""


def _check(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a command of this project parse its words, and read the configs that it names, with its settings."""
    count = next(number for number, word in enumerate(words) if not ASSIGNED.match(word))
    with monkeypatch.context() as patched:
        for name in command_line.CHOICE:
            patched.delenv(name, raising=False)
        for word in words[:count]:
            patched.setenv(*word.split("=", 1))
        program, *arguments = words[count:]
        is_of_reader = arguments[:2] == ["prepare.py", "oxfordpet"] or arguments[0].startswith("runs/")
        if program not in ("python", "sh") or is_of_reader:
            return
        asked = _options(arguments, patched)
        if asked is not None and not MADE.intersection(words) and "MODEL=mine" not in words:
            _read_configs(asked)


def _options(words: list[str], patched: pytest.MonkeyPatch) -> argparse.Namespace | None:
    """Return what a script or a module makes of its options; None for one without options."""
    script, *arguments = words
    if script == "-m":
        script, *arguments = arguments
    if script in WITHOUT_OPTIONS:
        return None
    parse = argparse.ArgumentParser.parse_args

    def stop(self: argparse.ArgumentParser, *given: object) -> NoReturn:
        raise _Parsed(parse(self, *given))

    patched.setattr(argparse.ArgumentParser, "parse_args", stop)
    patched.setattr(sys, "argv", [script, *arguments])
    with pytest.raises(_Parsed) as parsed:
        PROGRAMS[script](*([arguments] if script == "predict.py" else []))
    return parsed.value.args[0]


def _read_configs(asked: argparse.Namespace) -> None:
    if isinstance(getattr(asked, "config", None), list):  # of train.sh and test.sh
        read_words(asked)
        if not asked.config[0].startswith("runs/"):
            command_line.read(asked)


def test_the_way_of_an_episode_is_told_by_functions_that_are_there() -> None:
    """Twelve lines each of a training step and of a test's episode, in ``development.md``."""
    text = (REPOSITORY / "docs/development.md").read_text()
    rows = re.findall(r"^\| (?!-)([^|]+) \| ([^|]+) \|$", text.partition("| a training step |")[2], re.MULTILINE)
    assert len(rows) == 12
    for step, episode in rows:
        for cell in (step, episode):
            file, *functions = re.findall("`([^`]+)`", cell if ".py" in cell else step)  # "the same"
            assert functions
            for name in functions:
                _check_function(REPOSITORY / file, name)


def _check_function(file: Path, name: str) -> None:
    """Check that a file defines a function, or a class's method."""
    body: list[Any] = ast.parse(file.read_text()).body
    for part in name.split("."):
        found = [node for node in body if getattr(node, "name", None) == part]
        assert found, f"{file} has no {name}"
        body = getattr(found[0], "body", [])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_what_a_document_names_exists_and_its_commands_parse(document: Path, monkeypatch: pytest.MonkeyPatch):
    """Files, sections and paths; scripts, modules, options and configs of the commands that are not run."""
    _check_links(document)
    _check_places(document.read_text())
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.syspath_prepend(str(REPOSITORY))
    for words in _commands(document):
        try:
            _check(words, monkeypatch)
        except (Exception, SystemExit, pytest.fail.Exception) as error:
            raise AssertionError(f"{shlex.join(words)}: {error}") from error


def _check_links(document: Path) -> None:
    for target, anchor in LINK.findall(document.read_text()):
        file = (document.parent / target).resolve() if target else document
        assert file.exists(), f"{target} does not exist"
        assert not anchor or anchor in _anchors(file), f"{target} has no section #{anchor}"


def _check_places(text: str) -> None:
    """Paths of the repository."""
    for path in PATH.findall(PLACEHOLDER.sub(" ", text)):
        path = path.rstrip("./") if path.endswith((".", "/")) else path
        known = path in EXAMPLES or (REPOSITORY / path).exists()
        assert known, f"{path} does not exist"


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


def test_a_wrong_command_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(REPOSITORY))
    for wrong in (
        "MODEL=ssp NET=lite0 sh train.sh split0 mini 0 --no-such-option",
        "MODEL=ssp NET=lite0 sh test.sh split0 mini 0 --set test.no_such_key=1",
        "python report.py tables runs/a",
        "python prepar.py mini",
        "python -m util.benchmarks",
    ):
        for text in (f"```sh\n{wrong}\n```\n", f"Then `{wrong}` does it.\n"):
            (tmp_path / "page.md").write_text(text)
            (command,) = _commands(tmp_path / "page.md")
            with pytest.raises((Exception, SystemExit, pytest.fail.Exception)):
                _check(command, monkeypatch)


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
