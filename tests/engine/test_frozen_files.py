"""Frozen weights lie once beside the checkpoints: no kill loses them, and a checkpoint without them says so."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.episode import LabelledImages, Output
from tests.engine.test_midway import BATCH, Line, Run
from util.engine import checkpoint
from util.engine.folders import BEST, LAST, PREVIOUS
from util.engine.frozen_files import FrozenFiles, digest_of, file_name, frozen_names
from util.errors import UserError
from util.prepare import weights as command
from util.report.run_folder import RunFolder

WIDTH = 150  # of the frozen layer: 90 KB
CHECKPOINTS = (BEST, LAST, PREVIOUS)


class Killed(BaseException):
    """The process ends here."""


class OverFrozen(Line):
    """Learns a line over a frozen layer with a norm, whose statistics stay too."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, WIDTH), nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, WIDTH))
        self.freeze()

    def frozen(self) -> Iterator[nn.Module]:
        yield self.encoder

    def forward(self, batch: LabelledImages) -> Output:
        return super().forward(LabelledImages(batch.image + self.encoder(batch.image)[:, :2], batch.label))


def train(folder: Path, score: Callable[[int], float] = float, **options: Any) -> Run:
    return Run(folder, score, network=OverFrozen, **({"ema_decay": 0, "epochs": 2} | options))


def best_at_7(step: int) -> float:
    return float(step == 7)


def frozen_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("frozen-*.pth"))


def inline(path: Path) -> dict[str, Tensor]:
    """Return the tensors in the file of a checkpoint itself."""
    return torch.load(path, weights_only=True)["weights"]


def save(folder: Path, state: dict[str, Tensor], name: str = BEST) -> Path:
    """Write a checkpoint whose weights all lie beside it; return its path."""
    config = {"run": {}, "data": {}, "model": {"name": "ssp"}}
    checkpoint.save(folder / name, {"stage": "meta", "config": config, **FrozenFiles(folder).put(state, state)})
    return folder / name


def part(value: float) -> dict[str, Tensor]:
    return {"encoder.weight": torch.full((WIDTH, WIDTH), value), "encoder.count": torch.tensor(3)}


# --- what a training leaves ------------------------------------------------------------------------------------------


def test_frozen_weights_are_written_once_and_read_with_every_checkpoint(tmp_path: Path) -> None:
    run = train(tmp_path, end=8 * BATCH).fit()
    assert len(frozen_files(tmp_path)) == 1
    own = OverFrozen().state_dict()
    for name in CHECKPOINTS:
        assert set(inline(tmp_path / name)) == {"layer.weight", "layer.bias"}
        state = checkpoint.read(tmp_path / name)["weights"]
        assert state.keys() == own.keys()
        assert all(torch.equal(state[n], own[n]) for n in frozen_names(run.trainer.network))
    assert "optimizers" in checkpoint.read(tmp_path / LAST) and "optimizers" not in checkpoint.read(tmp_path / BEST)


def test_at_its_end_a_training_leaves_equal_checkpoints_as_one_file(tmp_path: Path) -> None:
    train(tmp_path).fit()
    assert len({(tmp_path / name).stat().st_ino for name in CHECKPOINTS}) == 1
    assert checkpoint.read(tmp_path / LAST)["progress"]["step"] == 10


def test_at_its_end_a_training_keeps_no_state_of_optimisers(tmp_path: Path) -> None:
    train(tmp_path, best_at_7).fit()
    best, last = checkpoint.read(tmp_path / BEST), checkpoint.read(tmp_path / LAST)
    assert (best["progress"]["step"], last["progress"]["step"]) == (7, 10)
    assert "optimizers" not in last and (tmp_path / LAST).samefile(tmp_path / PREVIOUS)
    again = train(tmp_path).resume()
    assert again.validated == [] and again.record["finished"]
    assert torch.equal(checkpoint.read(tmp_path / LAST)["weights"]["layer.weight"], last["weights"]["layer.weight"])


def test_a_training_that_its_patience_ended_can_still_continue(tmp_path: Path) -> None:
    train(tmp_path, lambda step: -step, epochs=4, patience=1, ema_decay=0.5).fit()
    last = checkpoint.read(tmp_path / LAST)
    assert last["progress"]["step"] == 10 and last["optimizers"] and last[checkpoint.EMA]
    assert (tmp_path / LAST).samefile(tmp_path / PREVIOUS)


def test_the_weights_that_go_on_to_another_stage_all_lie_beside(tmp_path: Path) -> None:
    train(tmp_path, passed_on=True).fit()
    assert inline(tmp_path / BEST).keys() == {"layer.weight", "layer.bias"}  # too small for a file
    assert checkpoint.read(tmp_path / BEST)["weights"].keys() == OverFrozen().state_dict().keys()


def test_parts_that_the_start_has_are_links_to_its_files(tmp_path: Path) -> None:
    base, meta = tmp_path / "base", tmp_path / "meta"
    (base).mkdir(), meta.mkdir()
    digest = FrozenFiles(base).put(part(1.0), part(1.0))["frozen"][0]
    FrozenFiles(meta, base).put(part(1.0), part(1.0))
    assert (base / file_name(digest)).samefile(meta / file_name(digest))
    (base / file_name(digest)).write_bytes(b"damaged")  # and with it the meta stage's
    FrozenFiles(meta, base).put(part(1.0), part(1.0))
    assert digest_of(torch.load(meta / file_name(digest), weights_only=True)["weights"]) == digest


# --- kills -----------------------------------------------------------------------------------------------------------


@pytest.mark.train
@pytest.mark.parametrize(("passed_on", "after"), [(False, True), (True, False)])
def test_no_kill_loses_a_checkpoint_or_its_frozen_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passed_on: bool, after: bool
) -> None:
    """The run ends before or after each operation that gives a name to a file or takes it away."""
    monkeypatch.setattr("util.engine.frozen_files.MIN_BYTES", 0)  # so that every better one has files of its own
    unbroken = train(tmp_path / "unbroken", passed_on=passed_on).fit()
    left, kills = 0, 0

    def deadly(operation: Callable) -> Callable:
        def counted(*words: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and not after:
                raise Killed
            try:
                return operation(*words, **options)
            finally:
                if left == 0:
                    raise Killed

        return counted

    with monkeypatch.context() as patched:
        for name in ("replace", "link"):
            patched.setattr(os, name, deadly(getattr(os, name)))
        patched.setattr(Path, "unlink", deadly(Path.unlink))
        folder = tmp_path / "run"
        while kills < 500:  # each run gets a little further, as the last one began where that before ended
            left = 7 + kills % 11
            run = train(folder, passed_on=passed_on)
            try:
                run.resume() if (folder / LAST).exists() else run.fit()
                break
            except Killed:
                kills += 1
            for path in filter(Path.exists, (folder / name for name in CHECKPOINTS)):
                checkpoint.read(path)
    assert kills > 5 and len(frozen_files(folder)) == len(frozen_files(unbroken.folder))
    for name in (BEST, LAST):
        ours, theirs = (checkpoint.read(f / name)["weights"] for f in (folder, unbroken.folder))
        assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    assert run.record["epochs"] == unbroken.record["epochs"]


def test_a_finished_run_whose_last_checkpoint_is_cut_has_both_again(tmp_path: Path) -> None:
    train(tmp_path, best_at_7).fit()
    whole = checkpoint.read(tmp_path / LAST)["weights"]
    (tmp_path / LAST).unlink()
    (tmp_path / LAST).write_bytes(b"PK\x03\x04 cut")
    train(tmp_path).resume()
    for name in (LAST, PREVIOUS):
        assert torch.equal(checkpoint.read(tmp_path / name)["weights"]["layer.weight"], whole["layer.weight"])


def test_a_run_removes_what_a_killed_one_was_writing(tmp_path: Path) -> None:
    (tmp_path / ".123.tmp.last.pth").write_bytes(b"part of a checkpoint")
    RunFolder(tmp_path).close()
    assert not list(tmp_path.glob(".123*"))


def test_only_files_that_no_checkpoint_needs_are_removed(tmp_path: Path) -> None:
    for name, value in ((BEST, 1.0), ("copy.pth", 2.0)):
        save(tmp_path, part(value), name)
    FrozenFiles(tmp_path).put(part(3.0), part(3.0))
    (tmp_path / "odd.pth").write_bytes(b"something")
    FrozenFiles(tmp_path).remove_unused()
    assert len(frozen_files(tmp_path)) == 3  # nobody knows what the odd one needs
    (tmp_path / "odd.pth").unlink()
    FrozenFiles(tmp_path).remove_unused()
    assert {f.name for f in frozen_files(tmp_path)} == {file_name(digest_of(part(v))) for v in (1.0, 2.0)}


# --- checkpoints without their files ---------------------------------------------------------------------------------


def test_a_checkpoint_that_was_moved_alone_names_the_file_it_misses(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    path, moved = save(tmp_path / "run", part(1.0)), tmp_path / "moved.pth"
    moved.write_bytes(path.read_bytes())
    missing = tmp_path / file_name(digest_of(part(1.0)))
    with pytest.raises(UserError) as caught:
        checkpoint.read(moved)
    assert str(caught.value).startswith(f"{moved}: part of this checkpoint's weights is in {missing}, which is missing")
    assert "prepare.py weights moved.pth --whole FILE" in str(caught.value) and "\n" not in str(caught.value)
    (tmp_path / "linked.pth").symlink_to(path)
    assert torch.equal(
        checkpoint.read(tmp_path / "linked.pth")["weights"]["encoder.weight"], part(1.0)["encoder.weight"]
    )


def test_a_checkpoint_made_whole_can_be_moved(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "run").mkdir()
    path, whole = save(tmp_path / "run", part(1.0)), tmp_path / "whole.pth"
    options = Namespace(what=str(path), check=None, out=tmp_path, whole=whole, small=None)
    assert command.run(options) == 0 and "can be moved" in capsys.readouterr().out
    assert checkpoint.read(whole)["weights"].keys() == inline(whole).keys() == part(1.0).keys()
    for what, reason in (
        (str(path), "whole.pth: this file exists already"),
        ("resnet50", "name the checkpoint's file before it"),
        (str(frozen_files(tmp_path / "run")[0]), "no checkpoint of this project"),
    ):
        with pytest.raises(UserError, match=reason):
            command.run(Namespace(what=what, check=None, out=tmp_path, whole=whole, small=None))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-100]), "cannot be read: .*frozen-.*truncated"),
        (lambda file: torch.save({"weights": part(2.0)}, file), "holds other weights than those that .*best.pth was"),
        (lambda file: torch.save({"weights": [5]}, file), "holds other weights"),
        (lambda file: (file.unlink(), file.mkdir()), "cannot be read"),
    ],
)
def test_a_damaged_or_exchanged_file_is_refused(tmp_path: Path, damage: Callable, reason: str) -> None:
    path = save(tmp_path, part(1.0))
    damage(frozen_files(tmp_path)[0])
    with pytest.raises(UserError, match=reason) as caught:
        checkpoint.read(path)
    assert "\n" not in str(caught.value)


def test_a_tensor_that_is_in_two_files_is_refused(tmp_path: Path) -> None:
    content = torch.load(save(tmp_path, part(1.0)), weights_only=True)
    torch.save({**content, "weights": part(5.0)}, tmp_path / BEST)
    with pytest.raises(UserError, match=re.escape("it has encoder.count twice")):
        checkpoint.read(tmp_path / BEST)
