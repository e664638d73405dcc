"""Writers of curves by their names: their packages, and a writer of Weights & Biases as its package is called."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from util.errors import UserError
from util.report.run_folder import RunFolder, check_writers


def test_each_writer_gets_every_point_and_a_resumed_run_keeps_its_name_there(tmp_path: Path, monkeypatch) -> None:
    begun, logged = list[dict](), list[tuple[dict, int]]()
    run = SimpleNamespace(log=lambda values, step: logged.append((values, step)), finish=lambda: None)
    module = SimpleNamespace(init=lambda **given: begun.append(given) or run, Image=np.shape)
    monkeypatch.setitem(sys.modules, "wandb", module)
    for step in (1, 2):
        folder = RunFolder(tmp_path / "mine/meta")
        folder.loggers, folder.resumed_at = ["tensorboard", "wandb"], None if step == 1 else step
        folder.scalars("loss", {"main": 0.5}, step)
        folder.image("validation/0", np.zeros((4, 5, 3), np.uint8), step)
        folder.close()
    assert [given["name"] for given in begun] == ["mine/meta"] * 2 and len({given["id"] for given in begun}) == 1
    of_two = [({"loss/main": 0.5}, step) for step in (1, 2)]
    assert logged[::2] == of_two and logged[1][0] == {"validation/0": (4, 5, 3)}
    assert list((tmp_path / "mine/meta/tensorboard").iterdir())
    check_writers(["tensorboard"])
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"run\.loggers: wandb is not installed"):
        check_writers(["tensorboard", "wandb"])
