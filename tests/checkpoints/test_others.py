"""Checkpoints as other programs write them: their weights are read, nothing else is loaded, and a refusal says why."""

import argparse
import datetime
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from util.checkpoints import checkpoint
from util.errors import UserError


class Options:
    """A class that the reader does not have."""

    rate = 0.1


BESIDE = {
    "best": np.float64(0.6),
    "scores": np.ones((2, 3)),
    "args": argparse.Namespace(lr=0.1),
    "folder": Path("runs"),
    "made": datetime.datetime(2026, 1, 1),
    "history": defaultdict(list, {1: [2.0]}),
    "options": Options(),
    "kind": Options,
    "optimizer": {"state": {}, "param_groups": [{"lr": np.float32(1)}]},
}
STATE = {"layer.weight": torch.ones(3), "layer.bias": torch.zeros(2)}


def wrapped(prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in STATE.items()}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "content",
    [
        {"epoch": 3, "state_dict": wrapped("module."), **BESIDE},
        wrapped("_orig_mod."),
        {"model_state_dict": wrapped("module._orig_mod."), "args": BESIDE["args"]},
        {"net": wrapped(""), "model": {"name": "unet"}, "best": torch.tensor(0.5)},
        {"state_dict": wrapped("model."), "hyper_parameters": BESIDE, "pytorch-lightning_version": "2.4"},
        {"model": {"state_dict": wrapped("net.")}},
    ],
)
def test_weights_are_read_from_any_wrapping(tmp_path: Path, content: dict[str, Any], zipped: bool) -> None:
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    found = checkpoint.weights_of(checkpoint.read(tmp_path / "a.pth"))
    assert found.keys() == STATE.keys() and all(torch.equal(found[name], x) for name, x in STATE.items())


@pytest.mark.parametrize(
    "content", [{"model": torch.nn.Linear(2, 2), "epoch": 1}, torch.nn.Linear(2, 2), {"a": Options()}]
)
def test_a_file_without_tensors_says_what_it_holds(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth: holds no named tensors \(.*(Linear|Options).*model\.state_dict\(\)"):
        checkpoint.read(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("call", "refused"), [(os.mkdir, "it would load posix.mkdir)"), (Path.mkdir, "unrecognized function"), (exec, "")]
)
def test_nothing_of_a_file_is_executed(tmp_path: Path, call: Any, refused: str) -> None:
    made = tmp_path / "made"

    class Exploit:
        def __reduce__(self) -> tuple:
            return call, (f"import os; os.mkdir({str(made)!r})" if call is exec else made,)

    torch.save({"state_dict": STATE, "extra": Exploit()}, tmp_path / "a.pth")
    if refused:
        with pytest.raises(UserError, match=r"a\.pth: truncated, or not") as caught:
            checkpoint.read(tmp_path / "a.pth")
        assert refused in str(caught.value)
    else:
        assert checkpoint.weights_of(checkpoint.read(tmp_path / "a.pth")).keys() == STATE.keys()
    assert not made.exists()
