"""Files of weights of anybody: memory is bounded by the size of the file, and each problem is one line."""

import json
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from util.files import sizes
from util.files.errors import UserError
from util.weights import checkpoint

WEIGHTS = {"layer.weight": torch.ones(3, 2)}
CONFIG = {"run": {}, "data": {}, "model": {"name": "symnet"}, "meta_stage": {}}
OWN = {"format": checkpoint.FORMAT, "stage": "meta", "config": CONFIG, "weights": WEIGHTS}


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        checkpoint.read(path)
    line = str(caught.value)
    assert line.startswith(str(path)) and " at 0x" not in line and len(line) < 500
    return line


def saved(path: Path, value: Any) -> Path:
    torch.save(value, path)
    return path


def cyclic() -> dict[str, Any]:
    config = dict(CONFIG)
    config["model"] = {"name": "symnet", "parent": config}
    return {**OWN, "config": config}


def aliased() -> dict[str, Any]:
    values = ["x"] * 10
    for _ in range(8):
        values = [values] * 10
    return {**OWN, "config": {**CONFIG, "model": {"name": values}}}


def nested_tensor() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


ODD = "odd is a tensor of the kind"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: WEIGHTS | {"odd": torch.ones(3, device="meta")}, ODD),
        (lambda: WEIGHTS | {"odd": torch.eye(3).to_sparse()}, ODD),
        (lambda: WEIGHTS | {"odd": torch.eye(3).to_sparse_csr()}, ODD),
        (lambda: WEIGHTS | {"odd": nested_tensor()}, f"{ODD}|_rebuild_nested_tensor"),  # until torch 2.14|later
        (lambda: WEIGHTS | {"odd": torch.ones(3).to(torch.float8_e4m3fn)}, ODD),
        (lambda: WEIGHTS | {"odd": torch.ones(3, dtype=torch.complex64)}, ODD),
        (cyclic, "contains itself"),
        (aliased, "aliases stand for"),
        (lambda: WEIGHTS | {"x": bytearray(3)}, "it would load builtins.bytearray"),
        (lambda: {"w": torch.ones(1).expand(2**26)}, "its tensors have 268435456 bytes, more than the file"),
        (lambda: {"model": torch.nn.Linear(2, 2)}, "holds no named tensors (model: torch.nn.modules.linear.Linear"),
        (lambda: {"a": Namespace(lr=0.1)}, "holds no named tensors (a: argparse.Namespace)"),
        (
            lambda: torch.nn.Linear(2, 2),
            "holds no named tensors (the file: torch.nn.modules.linear.Linear); save model.state_dict()",
        ),
    ],
)
def test_data_that_is_not_plain_or_never_ends_is_refused_by_name(
    make: Callable[[], Any], said: str, tmp_path: Path
) -> None:
    refused = refusal(saved(tmp_path / "a.pth", make()))
    assert any(text in refused for text in said.split("|"))


def test_a_tensor_of_two_names_counts_once(tmp_path: Path) -> None:
    shared = torch.ones(2**18)
    assert len(checkpoint.read(saved(tmp_path / "b.pth", {"w": shared, "tied": shared})).weights) == 2


def test_an_archive_that_is_larger_unpacked_is_refused_before(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sizes, "ROOM", 2**20)
    path = saved(tmp_path / "a.pth", {"w": torch.zeros(2**20)})
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as out:
        for name in archive.namelist():
            out.writestr(name, archive.read(name))
    assert "bytes unpacked, the file" in refusal(tmp_path / "b.pth")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"config": None}, "NoneType"),
        ({"config": {"run": {}}}, "_stage"),
        ({"stage": "base"}, "base_stage"),
        ({"weights": [1]}, "list"),
        ({"weights": {"w": 5}}, "int"),
        ({"weights": {5: torch.ones(1)}}, "5 is no name of a tensor"),
        ({"progress": 7}, "int"),
    ],
)
def test_a_damaged_checkpoint_of_our_own_is_one_line(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    refused = refusal(saved(tmp_path / "a.pth", {**OWN, **changes}))
    assert "is a damaged checkpoint" in refused and said in refused and "\n" not in refused


@pytest.mark.parametrize("header", ["null", "[]", '{"format": "sym-net/1"}', "{", "[" * 5000])
def test_a_header_of_safetensors_without_a_checkpoint_is_one_line(header: str, tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "a.safetensors", {"content": header})
    refusal(tmp_path / "a.safetensors")
    save_file(WEIGHTS, tmp_path / "b.safetensors", {"content": json.dumps({"note": 1})})
    assert checkpoint.read(tmp_path / "b.safetensors").weights.keys() == WEIGHTS.keys()
