"""Files, sections and scripts that documents name exist; commands that are not run parse, their configs can be read.

``test_documents_run.py`` runs the code of the tutorials, ``datasets/test_custom.py`` that of ``datasets.md``.
"""

import argparse
import ast
import importlib
import re
import shlex
import string
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from datasets.recipes import recipes
from tests.helpers import api_page
from tests.helpers.paths import REPOSITORY
from tests.test_documents_run import DOCUMENTS as RUN_IN_A_COPY
from util.config import command_line
from util.config.compose import find_config, source_of
from util.config.read import read_config
from util.launch import benchmark, reproduce
from util.run.arguments import read_words

README = REPOSITORY / "README.md"
DOCUMENTS = sorted(
    p
    for form in ("*.md", "docs/**/*.md", "initmodel/*.md", "lists/**/*.md", ".github/CONTRIBUTING.md")
    for p in REPOSITORY.glob(form)
)
RUN = {REPOSITORY / f"{name}.md" for name in RUN_IN_A_COPY}
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
SCRIPT = re.compile(r"(?:\bpython|\bsh) (\w+\.(?:py|sh))\b")
MODULE = re.compile(r"\bpython -m ((?:util|photos|tests)[\w.]*)")
FOLDERS = "annotations|config|docs|model|tests|util"
PATH = re.compile(rf"(?<![\w/.])((?:{FOLDERS})/[\w./-]*|requirements[\w-]*\.txt)")
PLACEHOLDER = re.compile(r"[\w./-]*[<{*[][^\s`]*")  # such as config/<dataset>/
# Files, data sets and a method that a reader makes.
EXAMPLES = {"config/pascal/mine.yaml", "config/pets", "config/oxfordpet", "model/mine.py", "config/model/mine.yaml"}
MADE = {"birds", "cups", "lvis92i", "mine", "oxfordpet", "pets"}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
INLINE = re.compile(r"`((?:[A-Z]+=\S+ )*(?:python|sh) [^`]+)`")
UNNAMED = re.compile(r"\.\.\.|<|--help|\b(?:RUNS|FILE|FOLDER|NAME|PATH)\b")  # of commands that a reader completes
CONFIG = "config/pascal/pascal_split0_resnet50.yaml"  # in place of the word CONFIG
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
DECLARED = re.compile(r"\(\s*\"(--[\w-]+)\"")  # by argparse or a name for its add_argument
SETTING = re.compile(r"`(?:--set )?(run|data|base_stage|meta_stage|test)\.(?!yaml|py|sh)(\w+)")
# Options of check.sh, argparse, pip, Slurm and a published program.
OTHERS = {
    "--quick",
    "--lowest",
    "--help",
    "--index-url",
    "--array",
    "--nodes",
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


@dataclass
class _Command:
    """A command that a document shows."""

    environment: dict[str, str]
    words: list[str]

    @property
    def program(self) -> str:
        """Its first word: sh, python or another program."""
        return self.words[0]

    @property
    def script(self) -> str:
        """The word after the program, '' for none."""
        return self.words[1] if len(self.words) > 1 else ""

    @property
    def arguments(self) -> list[str]:
        """The words after the script."""
        return self.words[2:]

    @property
    def names_what_readers_make(self) -> bool:
        """Whether a data set or a method of it is one that a reader adds."""
        return bool(MADE & {*self.arguments, self.environment.get("MODEL", "")})


def _commands(document: Path) -> list[_Command]:
    """Return the commands of a document's sentences, and of its blocks if these are not run."""
    commands = list(_of_sentences(document))
    if document not in RUN:
        commands += _of_blocks(document)
    return commands


def _of_blocks(document: Path) -> Iterator[_Command]:
    variables = _Variables()
    for script in _blocks(document, "sh"):
        for line in script.replace("\\\n", " ").splitlines():
            without_comment = re.sub(r"(^|\s)# .*", "", line)
            for part in without_comment.split("&&"):
                command = variables.read(shlex.split(part))
                if command.words:
                    yield command


def _of_sentences(document: Path) -> Iterator[_Command]:
    sentences = re.sub(r"\s+", " ", BLOCK.sub(" ", document.read_text()))
    for line in INLINE.findall(sentences):
        if not UNNAMED.search(line):
            environment, words = _assigned(shlex.split(line))
            yield _Command(environment, [CONFIG if word == "CONFIG" else word for word in words])


class _Variables:
    """The variables that blocks set for the commands after them."""

    def __init__(self) -> None:
        self.shell = dict[str, str]()
        self.exported = dict[str, str]()

    def read(self, words: list[str]) -> _Command:
        """Return the command of some words, its variables replaced; one without words sets variables alone."""
        words = [string.Template(word).safe_substitute(self.shell) for word in words]
        is_export = words[:1] == ["export"]
        given, words = _assigned(words[1:] if is_export else words)
        if is_export:
            self.exported |= given
        if not words:
            self.shell |= given
        if ">" in words:
            words = words[: words.index(">")]
        return _Command({**self.exported, **given}, words)


def _assigned(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return the variables that stand before a command, and its own words."""
    count = next((i for i, word in enumerate(words) if not re.match("[A-Z]+=", word)), len(words))
    return dict(word.split("=", 1) for word in words[:count]), words[count:]


class _Parsed(Exception):
    """The options of a command, which is then not run."""


def _options(call: object, monkeypatch: pytest.MonkeyPatch, *words: str, given: bool = False) -> argparse.Namespace:
    """Return the options that a command parses of its words; errors as the command's own."""
    parse = argparse.ArgumentParser.parse_args

    def stop(self: argparse.ArgumentParser, *args: object, **kwargs: object) -> NoReturn:
        raise _Parsed(parse(self, *args, **kwargs))

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        patch.setattr(sys, "argv", ["command", *words])
        with pytest.raises(_Parsed) as parsed:
            call(*([list(words)] if given else []))
    return parsed.value.args[0]


def _check(command: _Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse the words of one command; read the configs that it names, with its settings."""
    for name in command_line.CHOICE:
        monkeypatch.delenv(name, raising=False)
    for name, value in command.environment.items():
        monkeypatch.setenv(name, value)
    check = CHECKS.get((command.program, command.script))
    if check is not None:
        check(command, monkeypatch)
        return
    is_known = " ".join(command.words[:2]) in ("sh demo.sh", "sh check.sh")
    is_of_reader = command.names_what_readers_make or command.script.startswith("runs/")
    assert command.program not in ("sh", "python") or is_known or is_of_reader, "this command is not known"


def _check_reproduce(command: _Command, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _options(reproduce.main, monkeypatch, *command.arguments)
    models = asked.models or command.environment.get("MODEL") or "symnet"
    for model in models.split(","):
        read_config(find_config("split0", asked.dataset, model, asked.net), asked.overrides)


def _check_script(command: _Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of train.py and test.py, and of the shell scripts of these names."""
    if command.names_what_readers_make:
        return
    script = importlib.import_module(command.script.partition(".")[0])
    asked = _options(script.command, monkeypatch, *command.arguments)
    read_words(asked)
    if not any(word.startswith("runs/") for word in asked.config):
        command_line.read(asked)


def _check_prepare(command: _Command, monkeypatch: pytest.MonkeyPatch) -> None:
    if command.arguments[:1] == ["oxfordpet"]:  # of a reader
        return
    asked = _options(importlib.import_module("prepare").command, monkeypatch, *command.arguments)
    if asked.what == "check" and asked.configs and not command.names_what_readers_make:
        read_config(command_line.named(asked, asked.configs), asked.overrides)


def _check_predict(command: _Command, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _options(importlib.import_module("predict").command, monkeypatch, *command.arguments, given=True)
    if getattr(asked, "config", None):
        read_config(source_of(asked.config))


def _check_report(command: _Command, monkeypatch: pytest.MonkeyPatch) -> None:
    _options(importlib.import_module("report").command, monkeypatch, *command.arguments)


def _check_module(command: _Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ``python -m``; of all modules only the benchmark has options."""
    if command.arguments[0] == "util.launch.benchmark":
        _options(benchmark.command, monkeypatch, *command.arguments[1:])


CHECKS = {
    ("sh", "train.sh"): _check_script,
    ("sh", "test.sh"): _check_script,
    ("sh", "reproduce.sh"): _check_reproduce,
    ("python", "train.py"): _check_script,
    ("python", "test.py"): _check_script,
    ("python", "prepare.py"): _check_prepare,
    ("python", "predict.py"): _check_predict,
    ("python", "report.py"): _check_report,
    ("python", "-m"): _check_module,
}


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
    """Files, sections, scripts, modules and paths; options and configs of the commands that are not run."""
    _check_links(document)
    _check_places(document.read_text())
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.syspath_prepend(str(REPOSITORY))
    for command in _commands(document):
        try:
            _check(command, monkeypatch)
        except (Exception, SystemExit, pytest.fail.Exception) as error:
            raise AssertionError(f"{shlex.join(command.words)}: {error}") from error


def _check_links(document: Path) -> None:
    for target, anchor in LINK.findall(document.read_text()):
        file = (document.parent / target).resolve() if target else document
        assert file.exists(), f"{target} does not exist"
        assert not anchor or anchor in _anchors(file), f"{target} has no section #{anchor}"


def _check_places(text: str) -> None:
    """Scripts, modules and paths of the repository."""
    for script in SCRIPT.findall(text):
        assert (REPOSITORY / script).exists(), f"{script} does not exist"
    for module in MODULE.findall(text):
        place = REPOSITORY / module.replace(".", "/")
        assert place.with_suffix(".py").exists() or place.is_dir(), f"no module {module}"
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


def test_the_api_page_equals_the_docstrings():
    assert api_page.PAGE.read_text() == api_page.page()
