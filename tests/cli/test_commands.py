"""Commands in odd processes, and refused ones, which change nothing."""

import ast
import io
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pytest

from tests.helpers.outcome import run_script
from tests.helpers.paths import REPOSITORY
from util import cli, requirements
from util.config.read import read_config
from util.files.errors import EXIT_UNREAD, EXIT_USER_ERROR

SCRIPTS = ("predict", "prepare", "report", "test", "train")
ENTRY_POINTS = ("train.sh", "test.sh", "reproduce.sh", *(f"{name}.py" for name in SCRIPTS))


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture):
    """Return a function that runs a command with an output, and gives exit code and errors."""

    def run(command: Callable[[], object], output: TextIO | None = None, **options: bool) -> tuple[int, str]:
        with monkeypatch.context() as patched, pytest.raises(SystemExit) as left:
            patched.setattr(sys, "stdout", output or sys.stdout)
            patched.setattr(sys, "stderr", sys.stderr)
            cli.main(command, **options)
        return left.value.code or 0, capfd.readouterr().err

    return run


def test_a_command_runs_whose_output_is_closed() -> None:
    command = [sys.executable, "-c", "from util import cli; cli.main(lambda: print('a line'))"]
    assert subprocess.run(command, cwd=REPOSITORY, preexec_fn=lambda: os.closerange(0, 3)).returncode == 0


@pytest.mark.parametrize("lines", [1, 100_000])
def test_an_output_that_is_no_longer_read_or_has_no_room(lines: int, ended) -> None:
    """It ends a command that only prints, and none that writes files."""
    for writes_files, code in ((False, EXIT_UNREAD), (True, 0)):
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "w") as output:
            assert ended(lambda: print("a line\n" * lines), output, writes_files=writes_files) == (code, "")
    if (full := Path("/dev/full")).exists():
        with full.open("w") as output:
            said = "error: the output could not be written: No space left on device\n"
            assert ended(lambda: print("a line\n" * lines), output) == (EXIT_USER_ERROR, said)


@pytest.mark.parametrize("error", [OSError(12, "Cannot allocate memory"), OSError("no route to host")], ids=str)
def test_an_error_without_a_file_does_not_name_the_output(error: OSError, ended) -> None:
    def command() -> int:
        raise error

    assert ended(command) == (EXIT_USER_ERROR, f"error: OSError: {error.strerror or error}\n")


def test_an_error_in_the_code_of_others_is_a_traceback_and_a_line_with_its_place(ended, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("\n{}['x']")
    code, said = ended(lambda: runpy.run_path(str(path)))
    assert (code, said[:9], said.splitlines()[-1]) == (
        EXIT_USER_ERROR,
        "Traceback",
        f"error: KeyError: 'x' ({path}, line 2); mend its code",
    )


def test_a_name_that_the_output_cannot_encode_does_not_end_a_command(ended) -> None:
    written = io.BytesIO()
    assert ended(lambda: print("é"), io.TextIOWrapper(written, encoding="ascii"))[0] == 0
    assert written.getvalue() == b"\\xe9\n"


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return name -> time of change and content of every file; folders have neither."""
    entries = {}
    for path in sorted(folder.rglob("*")):
        state = (path.stat().st_mtime_ns, path.read_bytes()) if path.is_file() else (0, b"")
        entries[str(path.relative_to(folder))] = state
    return entries


@pytest.mark.train
def test_a_refused_command_changes_nothing(mini_yaml, mini_root: Path, tmp_path: Path, capfd, monkeypatch) -> None:
    shortly = {"meta_stage": {"epoch_length": 8}, "test": {"episodes": 2, "seeds": [0]}}
    path = mini_yaml("ssp", **shortly)
    photo, *others = sorted((mini_root / "JPEGImages").iterdir())[:3]
    marked, out = f"{photo}:box=10,10,50,50", tmp_path / "found"
    predict = ("predict.py", "--config", path, "--set", "test.checkpoint=none", "--support", marked, "--query", photo)
    for name, *words in (("train.py", path), ("test.py", path), (*predict, "--out", out)):
        assert run_script(name, words, capfd, monkeypatch).code == 0
    damaged = tmp_path / "damaged.pth"
    shutil.copy(tmp_path / "runs/tiny/meta/last.pth", damaged)
    damaged.write_bytes(damaged.read_bytes()[:500])
    (tmp_path / "names.txt").write_text("a\nb\n")
    custom = ("prepare.py", "custom", "--images", f"{mini_root}/JPEGImages", "--masks", f"{mini_root}/gone")
    custom += ("--classes", f"{tmp_path}/names.txt", "--out", f"{tmp_path}/data")
    refused = [
        ("train.py", path),
        ("train.py", path, "--resume", "--set", "run.seed=5"),
        ("train.py", path, "--resume", "--set", "meta_stage.batch=2"),
        ("train.py", path, "--overwrite", "--set", "data.root=gone"),
        ("train.py", path, "--overwrite", "--set", "data.train_list=gone.txt"),
        ("train.py", path, "--overwrite", "--set", "model.encoder.weights=gone.pth"),
        ("train.py", path, "--overwrite", "--set", "meta_stage.epoch=1"),
        ("train.py", path, "--stage", "base"),
        ("test.py", path, "--set", f"test.checkpoint={damaged}"),
        ("test.py", path, "--set", "test.checkpoint=gone.pth"),
        ("test.py", path, "--protocol", "symnett"),
        (*predict, "--out", out),
        (*predict, "--out", out, "--overwrite", "--query", f"{tmp_path}/gone.jpg"),
        (*predict, "--out", out, "--overwrite", "--support", f"{others[0]}:{damaged}"),
        ("prepare.py", "mini", "--out", f"{tmp_path}/mini", "--images", "1"),
        ("prepare.py", "mini", "--out", f"{tmp_path}/runs"),
        (*custom, "--name", "tiny"),
        (*custom, "--name", "mini"),
        ("prepare.py", "coco", "--root", tmp_path, "--out", f"{tmp_path}/coco"),
    ]
    before = snapshot(tmp_path)
    for name, *words in refused:
        assert run_script(name, words, capfd, monkeypatch).error  # its one line
        assert not before.items() ^ snapshot(tmp_path).items(), words
    config = read_config(tmp_path / "runs/tiny/meta/config.yaml")
    assert config.run.seed == 321
    assert {"bam", "hsnet"} <= config.protocols.keys()  # which a test of it may name


@pytest.mark.process
@pytest.mark.parametrize("script", ENTRY_POINTS)
def test_without_the_packages_the_first_command_is_named(script: str, tmp_path: Path) -> None:
    """A folder without ``.venv``, and a Python that has the standard library alone."""
    for folder in ("annotations", "model", "photos", "util"):
        (tmp_path / folder).symlink_to(REPOSITORY / folder)
    for name in ENTRY_POINTS:  # which call each other
        shutil.copy(REPOSITORY / name, tmp_path)
    bare = tmp_path / "bin/python3"
    bare.parent.mkdir()
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    words = ["sh" if script.endswith("sh") else bare, tmp_path / script, "split0", "pascal", "0"]
    done = subprocess.run(
        words,
        env={"PATH": f"{bare.parent}:/usr/bin:/bin", "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith("error: the package 'torch' is not installed") and "first run: " in done.stderr


def test_a_path_of_an_option_may_begin_with_the_home() -> None:
    parser = cli.Parser()
    parser.add_argument("--out", type=Path)
    assert parser.parse_args(["--out=~/found"]).out == Path.home() / "found"


def test_an_old_python_ends_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """It can parse what runs before the check: 3.7 is the oldest whose grammar ``ast`` knows."""
    for script in (*ENTRY_POINTS, "util/__init__.py", "util/launch.py", "util/requirements.py"):
        if script.endswith(".py"):
            ast.parse((REPOSITORY / script).read_text(), feature_version=(3, 7))
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    with pytest.raises(SystemExit) as ended:
        requirements.check()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith("error: Python 3.10 or later is needed") and said.count("\n") == 1
