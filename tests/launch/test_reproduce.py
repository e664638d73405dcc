"""``reproduce.sh``: a loop over train.sh and test.sh, which skip what is done; then the table."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.copied import Copy
from tests.helpers.paths import REPOSITORY
from tests.launch.test_launch import as_options

pytestmark = pytest.mark.process


def reproduced(*words: object) -> subprocess.CompletedProcess[str]:
    place = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        ["sh", "reproduce.sh", *map(str, words)], cwd=REPOSITORY, env=place, capture_output=True, text=True
    )


def test_its_help_names_its_options_and_words_that_mean_nothing_are_refused() -> None:
    named = set(re.findall("^  (--[a-z-]+)", reproduced("--help").stdout, re.MULTILINE))
    read = set(re.findall(r"(--[a-z-]+)\)(?! \|\|)", (REPOSITORY / "reproduce.sh").read_text()))
    assert named == read | {"--dry-run"}
    for words in (
        "pascal resnet50 \u00b2",
        "pascal resnet50 0 --fold 1",
        "pascal resnet50 0 -x",
        "pascal resnet50 0 --models ",
        "pascal resnet50 0 --shot ,",
        "pascal resnet50 0 --folds 0,9",
        "pascal resnet50 0 --seeds x",
        "pascal resnet50 0 --shot 1,0",
        "pascal resnet50 0 --protocol nope",
        "crossdomain resnet50 0 --models hsnet --shot 1 --set data.root=nowhere",
    ):
        ended = reproduced(*words.split(" "))
        assert (ended.returncode, ended.stdout, ended.stderr.count("\n"), ended.stderr[:7]) == (2, "", 1, "error: ")


@pytest.mark.train
def test_a_table_of_two_methods_and_again_with_nothing_to_do(copy: Copy, mini_root: Path, tmp_path: Path) -> None:
    """One method has nothing to train; all that stops a training is said before anything is done."""
    settings = {"data.cache": tmp_path / "cache", "run.folder": tmp_path / "runs"}
    settings |= {"data.size": 33, "data.min_pixels": 100, "model.encoder.weights": "null", "meta_stage.batch": 4}
    settings |= {"test.episodes": 4, "test.seeds": "[0]", "meta_stage.epoch_length": 4, "meta_stage.epochs": 1}
    words = ["mini", "resnet10", "0", "--folds", "1", "--shot", "1", "--models", "prototype,ssp"]
    command = shlex.join(["sh", "reproduce.sh", *words])
    roots = mini_root, tmp_path / "none"
    there, elsewhere = (shlex.join(as_options(settings | {"data.root": root})) for root in roots)
    assert "prepare.py mini" in copy.type(f"{command} {elsewhere} || [ $? = 2 ]") and not (tmp_path / "runs").exists()
    first, again = (copy.type(f"{command} {there}") for _ in range(2))
    assert (first.count("kept: "), again.count("kept: ")) == (0, 2)
    assert "SSP" in again and "prototype baseline" in again
    assert len([*(tmp_path / "runs").glob("mini_split1_*/test/*/result.json")]) == 2
