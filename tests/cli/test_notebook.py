"""The notebook of the docs: its code cells run one after the other, in a folder with the repository's files."""

import json
import os
from functools import partial
from pathlib import Path

import pytest

from tests.helpers import spawned
from tests.helpers.paths import REPOSITORY

NOTEBOOK = REPOSITORY / "docs/first_hour.ipynb"
OPTIONS = "--set run.device=cpu --set data.size=65 --set data.workers=0"
TRAINING = "--set meta_stage.epochs=1 --set meta_stage.epoch_length=4 --set meta_stage.validate_every=0"
SHORTER = {  # what a cell says, and what runs in its place
    'OPTIONS = ""\n': f'OPTIONS = "{OPTIONS}"\n',
    "train.py split0": f"train.py {TRAINING} split0",
    "test.py split0": "test.py --set test.episodes=4 split0",
    "prepare.py mini": "prepare.py mini --images 96",
}
FORKED = """
import multiprocessing

from tests.helpers.spawned import _become

in_a_process = run  # the cell's own function starts the first command, the others are forked, which is quicker


def run(command):
    if command.startswith("prepare.py"):
        return in_a_process(command)
    child = multiprocessing.get_context("fork").Process(target=_become, args=(shlex.split(command),))
    child.start()
    child.join()
    assert child.exitcode == 0, command
"""


def code_cells() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def shorter_script() -> str:
    """Return the code of all cells, with shorter trainings and tests."""
    set_up, *cells = code_cells()
    assert len(cells) == 5 + 4
    script = "\n".join((set_up, FORKED, *cells))
    for words, shorter in SHORTER.items():
        assert words in script
        script = script.replace(words, shorter)
    return script


@pytest.mark.process
@pytest.mark.train
def test_the_cells_of_the_notebook_run(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()  # where a notebook starts
    folders = [REPOSITORY / name for name in ("annotations", "config", "initmodel", "model", "photos", "util")]
    for path in (*REPOSITORY.glob("*.py"), *folders):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "cells.py").write_text(shorter_script())
    ended = spawned.start(tmp_path / "cells.py", before=partial(os.chdir, tmp_path / "docs"))
    assert ended.code == 0, ended.stdout[-1000:] + ended.stderr[-3000:]
    assert "portrait.jpg: presence score 0%, 0 pixels" in ended.stdout
    masks = {path.name for path in (tmp_path / "runs/first_hour").glob("*_mask.png")}
    assert masks == {"coins_2_mask.png", "coins_3_mask.png", "coins_4_mask.png", "portrait_mask.png"}
    assert "| SSP EfficientNet-Lite0" in ended.stdout
    assert "| prototype baseline EfficientNet-Lite0" in ended.stdout
