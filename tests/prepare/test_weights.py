"""Weights: downloads, and recognition of files by stem, depth, missing and damaged tensors."""

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models import resnet as tv_resnet
from torchvision.models import vgg as tv_vgg

from model.encoders.settings import EncoderSettings, build_encoder
from util.checkpoints import checkpoint
from util.prepare import weights


def _small(shapes: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of one stored number each, which keep files small."""
    large = 10**7  # only VGG's classifier has tensors of that size, and its shape has no influence
    ones = {k: torch.ones((), dtype=torch.int64 if "num_batches_tracked" in k else torch.float32) for k in shapes}
    return {k: ones[k].expand(v.shape if v.numel() < large else 1) for k, v in shapes.items()}


def _torchvision(name: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        network = getattr(tv_vgg if name.startswith("vgg") else tv_resnet, name)(weights=None)
    return _small(network.state_dict())


def _own(backbone: str, stem: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        encoder = build_encoder(EncoderSettings(backbone=backbone, stem=stem))
    return _small(encoder.state_dict())


def _save(path: Path, content: dict) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("name", ["resnet18", "vgg16_bn"])
def test_torchvision_files_are_recognised(prepare, tmp_path: Path, name: str) -> None:
    said = prepare("weights", _save(tmp_path / "file.pth", _torchvision(name))).output
    stem = "" if name.startswith("vgg") else ", plain stem"
    assert f"file.pth: {name.removesuffix('_bn')}{stem}, complete, float32, all finite; encoder weights" in said


def test_a_file_that_stops_after_a_stage_is_partial(prepare, shared: Path) -> None:
    path = shared / "initmodel/resnet50-imagenet-conv1-to-layer3.pth"
    outcome = prepare("weights", "resnet50", "--check", path)
    assert "resnet50, plain stem, all 50 tensors of stage 4 missing" in outcome.output
    assert "float16 and float32" in outcome.output and "model.encoder.partial: true" in outcome.output
    assert "holds a resnet50, not a resnet18" in prepare("weights", "resnet18", "--check", path).error


def test_checkpoints_are_no_imagenet_weights(prepare, tmp_path: Path) -> None:
    path, config = tmp_path / "best.pth", {"run": {"name": "mini_split0"}, "model": {"name": "symnet"}}
    config["data"] = {"name": "mini", "fold": 2, "shot": 5}
    held = {f"encoder.{k}": v for k, v in _own("resnet18", "plain").items()}
    content = {"stage": "meta", "config": config, "weights": {**held, "conv1.of.something.else": torch.ones(1)}}
    checkpoint.save(path, content)
    said = prepare("weights", path).output
    assert (
        "resnet18, plain stem, complete" in said and "meta stage of mini_split0 (symnet, mini fold 2, 5-shot)" in said
    )
    assert "test.sh" in said
    checkpoint.save(path, {**content, "stage": "base"})
    assert f"run.base_folder: {tmp_path}" in prepare("weights", path).output
    signature = ("down_supp.0.weight", "hyper_final.conv1.weight", "CrossAttention.weight")
    theirs = {f"module.{k}": v for k, v in (_own("resnet50", "deep") | {n: torch.ones(1) for n in signature}).items()}
    said = prepare("weights", _save(tmp_path / "authors.pth", {"state_dict": theirs, "epoch": 3})).output
    assert "resnet50, deep stem" in said and "the authors' " in said
    other = _save(tmp_path / "other.pth", _own("resnet50", "deep") | {"cls.weight": torch.ones(1)})
    assert "a checkpoint of another network around such an encoder" in prepare("weights", other).output


@pytest.mark.parametrize("name", ["vgg16", "wide_resnet50_2", "not finite", "lost"])
def test_other_files_are_refused(prepare, tmp_path: Path, name: str) -> None:
    path = tmp_path / "file.pth"
    if name == "not finite":
        _save(path, _torchvision("resnet18") | {"conv1.weight": torch.full((64, 3, 7, 7), torch.nan)})
    elif name != "lost":
        _save(path, _torchvision(name))
    assert str(path) in prepare("weights", path).error


def test_weights_are_fetched_checked_and_explained(prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _save(tmp_path / "resnet18.pth", _torchvision("resnet18"))  # named by its checksum, as torchvision's are
    file = file.rename(tmp_path / f"resnet18-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth")
    monkeypatch.setattr(weights, "weights_url", lambda network: file.as_uri())
    out = tmp_path / "initmodel"
    said = prepare("weights", "resnet18", "--out", out).output
    assert (out / file.name).read_bytes() == file.read_bytes() and len(list(out.iterdir())) == 1
    assert "model.encoder.stem: plain" in said and f"model.encoder.weights: {out / file.name}" in said
    before = (out / file.name).stat().st_mtime_ns
    assert "exists already" in prepare("weights", "resnet18", "--out", out).output
    assert (out / file.name).stat().st_mtime_ns == before
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert "checksum" in prepare("weights", "resnet18", "--out", tmp_path / "other").error
    assert not list((tmp_path / "other").iterdir())
