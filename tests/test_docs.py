"""Files, sections and scripts that documents name exist; their commands parse, their configs can be read."""

import argparse
import ast
import importlib
import re
import shlex
import string
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import pytest
import yaml

from tests.helpers.paths import REPOSITORY
from util.config import command_line
from util.config.compose import config_path
from util.config.read import read_config
from util.launch import launch, reproduce

README = REPOSITORY / "README.md"
DOCUMENTS = sorted(
    p for form in ("*.md", "docs/*.md", "initmodel/*.md", "lists/**/*.md") for p in REPOSITORY.glob(form)
)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
SCRIPT = re.compile(r"(?:\bpython|\bsh) (\w+\.(?:py|sh))\b")
MODULE = re.compile(r"\bpython -m ((?:util|benchmark|tests)[\w.]*)")
PATH = re.compile(r"(?<![\w/.])((?:benchmark|config|docs|model|tests|util)/[\w./-]*|requirements[\w-]*\.txt)")
PLACEHOLDER = re.compile(r"[\w./-]*[<{*[][^\s`]*")  # such as config/<dataset>/
COMPOSED = re.compile(r"config/\w+/\w+_split\d_\w+\.yaml")  # composed where no such file exists
# What a reader makes: files, data sets and a method.
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
OTHERS = {"--quick", "--lowest", "--help", "--index-url", "--array", "--nodes", "--kill-on-bad-exit", "--eposide"}


def _anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def _blocks(document: Path, language: str) -> list[str]:
    return [text for of_language, text in BLOCK.findall(document.read_text()) if of_language == language]


def _commands(document: Path) -> Iterator[tuple[dict[str, str], list[str]]]:
    """Yield the environment and the words of each command of a document, in its blocks and in its sentences."""
    sentences = re.sub(r"\s+", " ", BLOCK.sub(" ", document.read_text()))
    kept, exported = dict[str, str](), dict[str, str]()  # variables that a block sets for those after it
    for script in _blocks(document, "sh"):
        for line in script.replace("\\\n", " ").splitlines():
            line = re.sub(r"(^|\s)# .*", "", line)
            for part in line.split("&&"):
                words = [string.Template(word).safe_substitute(kept) for word in shlex.split(part)]
                export = words[:1] == ["export"]
                given, words = _assigned(words[export:])
                exported |= given if export else {}
                kept |= {} if words else given
                if words:
                    yield {**exported, **given}, words[: words.index(">")] if ">" in words else words
    for line in INLINE.findall(sentences):
        if not UNNAMED.search(line):
            given, words = _assigned(shlex.split(line))
            yield given, [CONFIG if word == "CONFIG" else word for word in words]


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


def _check(words: list[str], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse the words of one command; read the configs that it names, with its settings."""
    for name in command_line.CHOICE:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    program, first, *rest = [*words, "", ""][: len(words) + 2]
    rest = [word for word in rest if word]
    made = bool(MADE & {*rest, environment.get("MODEL", "")})
    if program == "sh" and first in ("train.sh", "test.sh") and not made:
        path, _, options = launch.parse(rest, first)
        if first == "train.sh":
            asked = _options(lambda: launch.train(path, 0, options), monkeypatch)
        else:
            command = importlib.import_module("test").command
            asked = _options(command, monkeypatch, str(path), *options)
        read_config(path, asked.overrides)
    elif program == "sh" and first == "reproduce.sh":
        asked = _options(reproduce.main, monkeypatch, *rest)
        for model in (asked.models or environment.get("MODEL") or "symnet").split(","):
            read_config(config_path("split0", asked.dataset, model, asked.net), asked.overrides)
    elif program == "python" and first in ("train.py", "train_base.py", "test.py"):
        asked = _options(importlib.import_module(first.removesuffix(".py")).command, monkeypatch, *rest)
        if not any(word.startswith("runs/") for word in asked.config):
            command_line.read(asked)
    elif program == "python" and first == "prepare.py" and rest[:1] != ["oxfordpet"]:
        asked = _options(importlib.import_module("prepare").command, monkeypatch, *rest)
        if asked.what == "check" and asked.configs and not made:
            read_config(command_line.named(asked, asked.configs), asked.overrides)
    elif program == "python" and first == "predict.py":
        asked = _options(importlib.import_module("predict").command, monkeypatch, *rest, given=True)
        if getattr(asked, "config", None):
            read_config(asked.config)
    elif program == "python" and first == "report.py":
        _options(importlib.import_module(first.removesuffix(".py")).command, monkeypatch, *rest)
    elif [program, first] == ["python", "-m"] and rest[0] == "benchmark":
        _options(importlib.import_module("benchmark").command, monkeypatch, *rest[1:])
    else:
        other = program not in ("sh", "python") or " ".join(words[:2]) in ("sh demo.sh", "sh check.sh", "python -m")
        assert other or made or first.startswith("runs/"), "this command is not known"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_what_a_document_names_exists_and_its_commands_parse(document: Path, monkeypatch: pytest.MonkeyPatch):
    """Files, sections, scripts, modules and paths; imports of its Python; options and configs of its commands."""
    text = document.read_text()
    for target, anchor in LINK.findall(text):
        file = (document.parent / target).resolve() if target else document
        assert file.exists(), f"{target} does not exist"
        assert not anchor or anchor in _anchors(file), f"{target} has no section #{anchor}"
    for script in SCRIPT.findall(text):
        assert (REPOSITORY / script).exists(), f"{script} does not exist"
    for module in MODULE.findall(text):
        place = REPOSITORY / module.replace(".", "/")
        assert place.with_suffix(".py").exists() or place.is_dir(), f"no module {module}"
    for path in PATH.findall(PLACEHOLDER.sub(" ", text)):
        path = path.rstrip("./") if path.endswith((".", "/")) else path
        known = path in EXAMPLES or COMPOSED.fullmatch(path) or (REPOSITORY / path).exists()
        assert known, f"{path} does not exist"
    for code in _blocks(document, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("model", "util"):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, name.name) for name in node.names), ast.unparse(node)
    assert all(map(yaml.safe_load, _blocks(document, "yaml")))
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.syspath_prepend(str(REPOSITORY))
    for environment, words in _commands(document):
        try:
            _check(words, environment, monkeypatch)
        except (Exception, SystemExit, pytest.fail.Exception) as error:
            raise AssertionError(f"{shlex.join(words)}: {error}") from error


def test_options_and_settings_exist():
    """A program of the project declares each option, and a run's config has each setting that a document names."""
    config = read_config(REPOSITORY / CONFIG)
    sources = [*REPOSITORY.glob("*.py"), *(p for name in ("util", "tests") for p in (REPOSITORY / name).rglob("*.py"))]
    known = OTHERS | {option for source in sources for option in DECLARED.findall(source.read_text())}
    for document in DOCUMENTS:
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
            ((environment, words),) = _commands(tmp_path / "page.md")
            with pytest.raises((Exception, SystemExit, pytest.fail.Exception)):
                _check(words, environment, monkeypatch)


def test_one_version():
    """``pyproject.toml``, ``CITATION.cff`` and the newest entry of ``CHANGELOG.md`` state the same version and date."""
    version = re.search(r'^version = "([\d.]+)"', (REPOSITORY / "pyproject.toml").read_text(), re.M).group(1)
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    newest, date = re.search(r"^## ([\d.]+), (.*)$", (REPOSITORY / "CHANGELOG.md").read_text(), re.M).groups()
    assert citation["version"] == newest == version
    assert datetime.strptime(date, "%d %B %Y").date() == citation["date-released"]


def test_readme_leads_to_every_document():
    """Every document in docs/ is linked from its index, which the README links."""
    index = REPOSITORY / "docs" / "README.md"
    assert "(docs/README.md)" in README.read_text()
    linked = {target for target, _ in LINK.findall(index.read_text())}
    assert {d.name for form in ("*.md", "*.ipynb") for d in index.parent.glob(form)} - {index.name} <= linked
