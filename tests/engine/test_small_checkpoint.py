"""Small checkpoints: half precision, the installed encoder left out, and what does not fit is refused."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest
import torch

from model.contract import FewShotModel
from util.config.read import read_config, to_dict
from util.engine import checkpoint
from util.engine.checkpoint_form import LEFT_OUT
from util.engine.network import new_model
from util.engine.run_context import make_run_context
from util.engine.small_checkpoint import write_small
from util.errors import UserError
from util.predict.load_model import load_model
from util.prepare.weight_facts import OURS, describe_weights_file
from util.prepare.weights import write_whole


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FewShotModel]:
    """Return a checkpoint of Pocket with the package's encoder, one of whose kernels has learnt, and its network."""
    config = read_config("config/mini/mini_split0_pocket_lite0.yaml", ["run.precision=bf16", "run.device=cpu"])
    network = new_model(make_run_context(config))
    checkpoint.load_encoder_weights(network, "package", partial=False)
    with torch.no_grad():
        network.get_parameter("encoder.net.blocks.5.0.conv_pw.weight").add_(0.01)
    path = tmp_path_factory.mktemp("run") / "best.pth"
    content = {"stage": "meta", "config": to_dict(config), "weights": network.state_dict(), "text": None}
    checkpoint.save(path, {**content, "progress": {}, "plan": {}})
    return path, network


@pytest.mark.parametrize("name", ["small.pth.xz", "small.pth"])
def test_a_small_file_gives_the_same_network_in_half_precision(trained, tmp_path: Path, name: str) -> None:
    path, network = trained
    write_small(path, tmp_path / name)
    assert (tmp_path / name).stat().st_size < 1.4e6 < 14e6 < path.stat().st_size
    content = checkpoint.read(tmp_path / name)
    inside = {name for name in content["weights"] if name.startswith("encoder.")}
    assert inside == {"encoder.net.blocks.5.0.conv_pw.weight"} and "progress" not in content
    facts = describe_weights_file(tmp_path / name)
    assert facts.kind == OURS and facts.line().startswith("timm/tf_efficientnet_lite0, complete, float16, all finite")
    assert facts.line().endswith("1-shot); the rest of the encoder: package")
    facts = describe_weights_file(path)
    assert facts.complete and facts.backbone == "timm/tf_efficientnet_lite0" and "package" not in facts.line()
    found = load_model(tmp_path / name)
    assert found.precision == "float32"  # of the machine that trained, which others need not have
    for key, tensor in network.state_dict().items():
        own = found.network.state_dict()[key]
        assert torch.equal(own, tensor.half().float() if key in content["weights"] else tensor), key


def test_weights_that_are_installed_in_another_form_are_noticed(trained, tmp_path: Path) -> None:
    write_small(trained[0], tmp_path / "small.pth")
    content = checkpoint.read(tmp_path / "small.pth")
    checkpoint.save(tmp_path / "other.pth", {**content, LEFT_OUT: {"package": "0" * 64}})
    with pytest.raises(UserError, match=r"other.pth: leaves out weights that the installed package should hold"):
        load_model(tmp_path / "other.pth")
    checkpoint.save(tmp_path / "odd.pth", {**content, LEFT_OUT: {"package": 5}})
    with pytest.raises(UserError, match="'left_out' holds no SHA-256 digest"):
        checkpoint.read(tmp_path / "odd.pth")
    checkpoint.save(tmp_path / "path.pth", {**content, LEFT_OUT: {"/etc/passwd": "0" * 64}})
    with pytest.raises(UserError, match="'left_out' names more than the installed package"):
        checkpoint.read(tmp_path / "path.pth")


def test_what_cannot_be_made_small_is_refused(trained, tmp_path: Path) -> None:
    path, _ = trained
    write_small(path, tmp_path / "small.pth")
    content = checkpoint.read(path)
    with pytest.raises(UserError, match=r"small.pth: this file exists already"):
        write_small(path, tmp_path / "small.pth")
    with pytest.raises(UserError, match="is small already"):
        write_small(tmp_path / "small.pth", tmp_path / "smaller.pth")
    with pytest.raises(UserError, match="is a small checkpoint, which is one file already"):
        write_whole(tmp_path / "small.pth", tmp_path / "whole.pth")
    with pytest.raises(UserError, match=r"small.pth: a small checkpoint, .*; name a whole one as model"):
        checkpoint.load_encoder_weights(trained[1], str(tmp_path / "small.pth"), partial=False)
    content["weights"]["decoder.correct.bias"] = torch.full((1,), 1e6)
    checkpoint.save(tmp_path / "large.pth", content)
    with pytest.raises(UserError, match=r"decoder.correct.bias has values that float16 does not hold"):
        write_small(tmp_path / "large.pth", tmp_path / "out.pth")
    content["config"]["model"]["encoder"]["weights"] = "initmodel/own.pth"
    checkpoint.save(tmp_path / "own.pth", content)
    with pytest.raises(UserError, match=r"its encoder started from initmodel/own.pth"):
        write_small(tmp_path / "own.pth", tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


def test_a_tensor_that_a_whole_checkpoint_lacks_is_named(trained, tmp_path: Path) -> None:
    content, name = checkpoint.read(trained[0]), "net.blocks.5.0.conv_pw.weight"
    del content["weights"][f"encoder.{name}"]
    checkpoint.save(tmp_path / "cut.pth", content)
    assert f"tensors missing, such as {name} inside a stage" in describe_weights_file(tmp_path / "cut.pth").line()


def test_a_damaged_compressed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = lzma.compress(b"0" * 4096)
    for name, content in (("cut.pth.xz", whole[:-20]), ("odd.pth.xz", b"no such archive")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name}: truncated, or damaged"):
            checkpoint.read(tmp_path / name)
    (tmp_path / "vast.pth.xz").write_bytes(whole)
    monkeypatch.setattr("util.engine.checkpoint_form.MAX_COMPRESSED", 1024)
    with pytest.raises(UserError, match=r"vast.pth.xz: expands to more than"):
        checkpoint.read(tmp_path / "vast.pth.xz")
    with pytest.raises(UserError, match=r"large.pth.xz: could not write .*not compressed; leave out the ending .xz"):
        checkpoint.save(tmp_path / "large.pth.xz", {"weights": {"w": torch.zeros(999)}})
    assert not (tmp_path / "large.pth.xz").exists()
