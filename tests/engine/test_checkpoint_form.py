"""Tests of the strict reader of checkpoints: damage, exports, and files that only claim to be of this project."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from util.engine import checkpoint
from util.engine.checkpoint_form import training_problem
from util.errors import UserError

CONFIG = {"run": {"name": "a"}, "data": {"name": "mini"}, "model": {"name": "symnet"}}
WEIGHTS = {"w": torch.arange(6.0)}
CIRCLE: dict[str, Any] = {}
CIRCLE["circle"] = CIRCLE
LAUGHS: list = ["ha"]
for _ in range(30):
    LAUGHS = [LAUGHS, LAUGHS]


def _own(**changes: Any) -> dict[str, Any]:
    content = {"format": "sym-net/1", "stage": "meta", "config": CONFIG, "weights": WEIGHTS, "data": "x", "text": None}
    return {key: value for key, value in (content | changes).items() if value != "gone"}


def test_a_flipped_bit_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "best.pth"
    torch.save(_own(weights={"w": torch.full((999,), 7.0)}), path)
    content = path.read_bytes()
    place = content.index(torch.full((9,), 7.0).numpy().tobytes()) + 40
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(UserError, match=r"best.pth: damaged, the checksum of its member .*data/0 is wrong"):
        checkpoint.read(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_two_members_of_one_name_is_refused(tmp_path: Path) -> None:
    torch.save(_own(), tmp_path / "best.pth")
    with zipfile.ZipFile(tmp_path / "best.pth", "a") as archive:
        archive.writestr(archive.namelist()[0], b"another content")
    with pytest.raises(UserError, match="two members named"):
        checkpoint.read(tmp_path / "best.pth")


def test_a_checkpoint_of_a_later_version_says_so(tmp_path: Path) -> None:
    torch.save(_own(format="sym-net/99"), tmp_path / "best.pth")
    with pytest.raises(UserError, match="of the format sym-net/99, this version reads sym-net/1"):
        checkpoint.read(tmp_path / "best.pth")


def test_an_archive_that_is_compressed_is_not_unpacked(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.pth", tmp_path / "packed.pth"
    torch.save(_own(), plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))
    with pytest.raises(UserError, match="is compressed"):
        checkpoint.read(packed)


def test_an_export_is_recognised(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "model.pt"))
    with pytest.raises(UserError, match=r"model.pt: this is an exported network.*torch.jit.load"):
        checkpoint.read(tmp_path / "model.pt")
    with zipfile.ZipFile(tmp_path / "query.pt2", "w") as archive:
        archive.writestr("query/archive_format", "pt2")
    with pytest.raises(UserError, match=r"query.pt2: this is an exported network.*torch.export.load"):
        checkpoint.read(tmp_path / "query.pt2")


def test_an_older_file_without_checksums_is_read(tmp_path: Path) -> None:
    torch.save({"state_dict": WEIGHTS}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(checkpoint.weights_of(checkpoint.read(tmp_path / "old.pth"))["w"], WEIGHTS["w"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stage": "other"}, "neither base nor meta"),
        ({"stage": ["meta"]}, "neither base nor meta"),
        ({"config": "gone"}, "no config"),
        ({"config": 5}, "no config"),
        ({"config": {**CONFIG, "data": "x"}}, "data must be a section"),
        ({"config": {**CONFIG, "run": {"seed": torch.ones(1)}}}, "'run.seed' holds a Tensor"),
        ({"config": {**CONFIG, 5: 6}}, "has the key 5, which is no text"),
        ({"config": {**CONFIG, "run": CIRCLE}}, "nested more than|contains itself"),
        ({"config": {**CONFIG, "data": {"classes": LAUGHS}}}, "more than 10000 values"),
        ({"config": {**CONFIG, "run": {"seed": 10**26}}}, "a number beyond"),
        ({"weights": [torch.ones(1)]}, "not named tensors"),
        ({"weights": {"w": "x"}}, "not named tensors"),
        ({"weights": {5: torch.ones(1)}}, "'5', which is no text"),
        ({"weights": {"w": torch.empty(2, device="meta")}}, "has no values"),
        ({"weights": {"w": torch.ones(1).expand(10**12)}}, "claims more values"),
        ({"data": 5}, "'data' is no text"),
        ({"text": torch.ones(1)}, "'text' is no text"),
        ({"frozen": "x"}, "'frozen' is no list of SHA-256 digests"),
        ({"frozen": ["../" * 20 + "../etc"]}, "'frozen' is no list of SHA-256 digests"),
    ],
)
def test_a_file_that_only_claims_this_projects_form(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    torch.save(_own(**changes), tmp_path / "a.pth")
    with pytest.raises(UserError, match=rf"a.pth: not a checkpoint.*({reason})"):
        checkpoint.read(tmp_path / "a.pth")


def test_classes_in_another_order_are_another_data_set() -> None:
    data = {"name": "own", "classes": ["cat", "dog"], "folds": 2, "fold_rule": "contiguous", "fold": 0}
    content = _own(config={**CONFIG, "data": data})
    now = {**CONFIG, "data": {**data, "classes": ["dog", "cat"]}}
    checkpoint.check_identity(content, content["config"], "meta", "a.pth")
    with pytest.raises(UserError, match=r"a.pth: a checkpoint with data.classes = \['cat', 'dog'\], this run has"):
        checkpoint.check_identity(content, now, "meta", "a.pth")


PROGRESS = {"step": 4, "best": 1.0, "best_epoch": 1.0, "minutes": 0.1, "history": [{"step": 2}], "totals": {}}
PLAN = {"steps_per_epoch": 2, "steps": 8, "batch": 4}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"plan": None}, "plan = None must be a section"),
        ({"progress": {**PROGRESS, "step": -5}}, "step -5 of 8"),
        ({"progress": {**PROGRESS, "step": 10**9}}, "step 1000000000 of 8"),
        ({"progress": {**PROGRESS, "extra": 1}}, "'progress.extra' is unknown"),
        ({"progress": {**PROGRESS, "best": float("nan")}}, "'best' is not a number"),
        ({"progress": {**PROGRESS, "history": [{"step": 6}]}}, "not of steps 1 to 4"),
        ({"progress": {**PROGRESS, "history": [{"step": 3}, {"step": 2}]}}, "not in order"),
        ({"progress": {**PROGRESS, "history": [{}]}}, "not in order"),
    ],
)
def test_a_position_that_cannot_be(changes: dict[str, Any], reason: str) -> None:
    content = _own(progress=PROGRESS, plan=PLAN, optimizers={})
    assert training_problem(content) is None
    assert reason in str(training_problem(content | changes))
    for key in ("progress", "plan", "optimizers", "data"):
        assert f"has no '{key}'" in str(training_problem({k: v for k, v in content.items() if k != key}))
