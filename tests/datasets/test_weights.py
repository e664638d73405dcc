"""Weights: downloads, and recognition of files by stem, depth, missing and damaged tensors."""

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision import models
from torchvision.models import resnet as tv_resnet
from torchvision.models import vgg as tv_vgg

from datasets import weights
from model.encoders.settings import EncoderSettings, build_encoder
from model.mismatch import ModelMismatch
from tests.datasets.printed import assert_done
from util.files.errors import UserError
from util.run import checkpoint
from util.run.fetch import download


def _small(shapes: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of one stored number each, which keep files small."""
    large = 10**7  # only VGG's classifier has tensors of that size, and its shape has no influence
    tensors = {}
    for name, shape in shapes.items():
        number = torch.ones((), dtype=torch.int64 if "num_batches_tracked" in name else torch.float32)
        tensors[name] = number.expand(shape.shape if shape.numel() < large else 1)
    return tensors


def _torchvision(name: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        network = getattr(tv_vgg if name.startswith("vgg") else tv_resnet, name)(weights=None)
    return _small(network.state_dict())


def _encoder(backbone: str, stem: str) -> dict[str, Tensor]:
    """Return the tensors of an encoder by our names."""
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


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"PK\3\4 cut", "cut short or damaged"), (b"<!DOCTYPE html><html></html>", "a web page"), (b"whole", "")],
)
def test_a_damaged_file_in_torchs_cache_is_named(tmp_path: Path, monkeypatch, content: bytes, problem: str) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    digest = hashlib.sha256(b"whole").hexdigest()
    url = f"https://download.pytorch.org/models/resnet50-{digest[:8]}.pth"
    monkeypatch.setattr(models.ResNet50_Weights.IMAGENET1K_V1.value, "url", url)
    file = tmp_path / f"checkpoints/{Path(url).name}"
    file.parent.mkdir()
    file.write_bytes(content)
    if problem:
        with pytest.raises(UserError, match=f"{file}: is {problem}.*remove it"):
            download("torchvision", "resnet50", "resnet50")
        return
    with pytest.raises(ModelMismatch, match="could not download resnet50"):  # as its name says, but no weights
        download("torchvision", "resnet50", "resnet50")


def test_a_file_that_stops_after_a_stage_is_partial(prepare, shared: Path) -> None:
    path = shared / "initmodel/resnet50-imagenet-conv1-to-layer3.pth"
    outcome = prepare("weights", "resnet50", "--check", path)
    assert_done(outcome, "resnet50, plain stem, all 50 tensors of stage 4 missing", "float16 and float32")
    assert_done(outcome, "model.encoder.partial: true")
    assert "holds a resnet50, not a resnet18" in prepare("weights", "resnet18", "--check", path).error


def test_a_file_that_lacks_a_tensor_inside_a_stage_is_partial(prepare, tmp_path: Path) -> None:
    state = _torchvision("resnet18")
    del state["layer2.1.bn1.bias"]
    outcome = prepare("weights", _save(tmp_path / "file.pth", state))
    assert_done(outcome, "1 tensors missing, such as layer2.1.bn1.bias: needs model.encoder.partial: true")
    assert_done(outcome, "  model.encoder.partial: true")


def test_checkpoints_of_this_project_are_described(prepare, tmp_path: Path) -> None:
    path = tmp_path / "best.pth"
    encoder = {f"encoder.{name}": tensor for name, tensor in _encoder("resnet18", "plain").items()}
    content = {
        "stage": "meta",
        "config": {
            "run": {"name": "mini_split0"},
            "model": {"name": "symnet"},
            "data": {"name": "mini", "fold": 2, "shot": 5},
            "meta_stage": {},
            "base_stage": {},
        },
        "weights": {**encoder, "conv1.of.something.else": torch.ones(1)},
    }
    checkpoint.save(path, content)
    outcome = prepare("weights", path)
    assert_done(outcome, "resnet18, plain stem, complete", "test.sh")
    assert_done(outcome, "meta stage of mini_split0 (symnet, mini fold 2, 5-shot)")
    checkpoint.save(path, {**content, "stage": "base"})
    assert f"run.base_folder: {tmp_path}" in prepare("weights", path).output


def test_checkpoints_of_authors_and_of_other_networks_are_described(prepare, tmp_path: Path) -> None:
    encoder = _encoder("resnet50", "deep")
    signature = ("down_supp.0.weight", "hyper_final.conv1.weight", "CrossAttention.weight")
    tensors = encoder | {name: torch.ones(1) for name in signature}
    state = {f"module.{name}": tensor for name, tensor in tensors.items()}
    authors = _save(tmp_path / "authors.pth", {"state_dict": state, "epoch": 3})
    assert_done(prepare("weights", authors), "resnet50, deep stem", "the authors' ")
    other = _save(tmp_path / "other.pth", encoder | {"cls.weight": torch.ones(1)})
    assert_done(prepare("weights", other), "a checkpoint of another network around such an encoder")


@pytest.mark.parametrize("name", ["vgg16", "wide_resnet50_2", "not finite", "lost"])
def test_other_files_are_refused(prepare, tmp_path: Path, name: str) -> None:
    path = tmp_path / "file.pth"
    if name == "not finite":
        _save(path, _torchvision("resnet18") | {"conv1.weight": torch.full((64, 3, 7, 7), torch.nan)})
    elif name != "lost":
        _save(path, _torchvision(name))
    assert str(path) in prepare("weights", path).error


def test_weights_are_fetched_checked_and_explained(prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = _save(tmp_path / "resnet18.pth", _torchvision("resnet18"))
    content = saved.read_bytes()
    digits = hashlib.sha256(content).hexdigest()[:8]
    file = saved.rename(tmp_path / f"resnet18-{digits}.pth")  # named by its checksum, as torchvision's are
    monkeypatch.setattr(weights, "weights_url", lambda network: file.as_uri())
    out = tmp_path / "initmodel"
    fetched = out / file.name
    outcome = prepare("weights", "resnet18", "--out", out)
    assert_done(outcome, "model.encoder.stem: plain", f"model.encoder.weights: {fetched}")
    assert fetched.read_bytes() == content
    assert list(out.iterdir()) == [fetched]
    before = fetched.stat().st_mtime_ns
    assert "exists already" in prepare("weights", "resnet18", "--out", out).output
    assert fetched.stat().st_mtime_ns == before
    file.write_bytes(content[:-1] + b"?")
    assert "checksum" in prepare("weights", "resnet18", "--out", tmp_path / "other").error
    assert not list((tmp_path / "other").iterdir())
