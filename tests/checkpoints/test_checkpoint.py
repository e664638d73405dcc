"""Checkpoints are written atomically, and a wrong one is refused with the expected properties."""

import resource
import signal
from pathlib import Path

import pytest
import torch

from tests import spawned
from util.checkpoints import checkpoint
from util.checkpoints.weights import load_checkpoint
from util.config.read import read_config, to_dict
from util.errors import UserError
from util.run.context import make_run_context
from util.run.network import build_model

SAVE = """
import sys, torch
from pathlib import Path
from util import cli
from util.checkpoints import checkpoint
cli.main(lambda: checkpoint.save(Path(sys.argv[1]), {"weights": {"w": torch.zeros(100000)}}))
"""


def no_file_may_grow() -> None:
    """Play the full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))


@pytest.fixture
def tiny(mini_yaml):
    """Return a function that builds (context, model) from tiny's config with overrides."""

    def build(*overrides: str):
        config = read_config(mini_yaml(), list(overrides))
        return make_run_context(config), build_model(config, text_width=300)

    return build


def save_meta(path: Path, context, model) -> Path:
    checkpoint.save(path, {"stage": "meta", "config": to_dict(context.config), "weights": model.state_dict()})
    return path


def test_save_and_load_give_the_same_weights(tiny, tmp_path: Path):
    context, model = tiny()
    path = save_meta(tmp_path / "a.pth", context, model)
    _, other = tiny("run.seed=7")
    before = other.decoder.head.classify.weight.clone()
    load_checkpoint(context, other, "meta", path)
    assert not torch.equal(before, model.decoder.head.classify.weight)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values()))


@pytest.mark.process
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path):
    path = tmp_path / "last.pth"
    checkpoint.save(path, {"weights": {"w": torch.ones(3)}})
    (tmp_path / "save").mkdir()
    (tmp_path / "save/save.py").write_text(SAVE)
    run = spawned.run(tmp_path / "save/save.py", path, before=no_file_may_grow, check=2)
    assert run.stderr.startswith("error: ") and run.stderr.count("\n") == 1
    assert f"{path}: cannot be written" in run.stderr
    assert torch.equal(torch.load(path, weights_only=True)["weights"]["w"], torch.ones(3))
    assert {p.name for p in tmp_path.iterdir()} == {"last.pth", "save"}


@pytest.mark.parametrize("keep", [0, -100])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, keep: int):
    path = tmp_path / "cut.pth"
    checkpoint.save(path, {"weights": {"w": torch.zeros(5000)}})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"cut\.pth: truncated"):
        checkpoint.read(path)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.fold=1", "data.fold = 0, this run has 1"),
        ("model.encoder.backbone=resnet18", "backbone = resnet10_narrow, this run has resnet18"),
        ("data.name=other", "data.name = mini, this run has other"),
        ("model.encoder.output_stride=16", "output_stride = None, this run has 16"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(tiny, tmp_path: Path, override: str, expected: str):
    path = save_meta(tmp_path / "a.pth", *tiny())
    context, model = tiny(override)
    with pytest.raises(UserError, match=expected):
        load_checkpoint(context, model, "meta", path)


@pytest.mark.parametrize(
    ("override", "reason"), [("data.shot=5", "shot_weights.mix"), ("data.folds=2", "classify.* has shape")]
)
def test_plain_weights_that_do_not_fit_say_where(tiny, tmp_path: Path, override: str, reason: str):
    _, model = tiny()
    torch.save(model.state_dict(), tmp_path / "plain.pth")
    context, other = tiny(override)
    before = [p.clone() for p in other.parameters()]
    with pytest.raises(UserError, match=reason):
        load_checkpoint(context, other, "meta", tmp_path / "plain.pth")
    assert all(torch.equal(a, b) for a, b in zip(before, other.parameters()))


def test_a_flipped_bit_is_seen(tmp_path: Path):
    path = tmp_path / "best.pth"
    checkpoint.save(path, {"weights": {"w": torch.full((999,), 7.0)}})
    content = path.read_bytes()
    place = content.index(torch.full((9,), 7.0).numpy().tobytes()) + 40
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(UserError, match=r"best.pth: truncated, .*checksum"):
        checkpoint.read(path)
