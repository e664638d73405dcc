"""ImageNet weights: downloads, and recognition of files by stem, depth, missing and damaged tensors."""

from __future__ import annotations

import hashlib
import threading
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models import resnet as tv_resnet
from torchvision.models import vgg as tv_vgg

from model.encoders.settings import EncoderSettings, build_encoder
from model.encoders.weights import checksum_of
from util.checkpoints import checkpoint
from util.errors import UserError
from util.prepare import weight_facts, weights
from util.prepare.weight_facts import describe_weights_file

LARGE = 10**7  # numbers; only VGG's classifier has tensors of that size, and its shape has no influence

# Tensors of one stored number each keep files small: only names, shapes, kinds and values matter.


def _small(shapes: dict[str, Tensor], kind: torch.dtype = torch.float32) -> dict[str, Tensor]:
    counter = "num_batches_tracked"
    ones = {k: torch.ones((), dtype=torch.int64 if counter in k else kind) for k in shapes}
    return {k: ones[k].expand(v.shape if v.numel() < LARGE else 1) for k, v in shapes.items()}


def _torchvision(name: str, kind: torch.dtype = torch.float32) -> dict[str, Tensor]:
    with torch.device("meta"):
        network = getattr(tv_vgg if name.startswith("vgg") else tv_resnet, name)(weights=None)
    return _small(network.state_dict(), kind)


def _own(backbone: str, stem: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        encoder = build_encoder(EncoderSettings(backbone=backbone, stem=stem))
    return _small(encoder.state_dict())


def _save(path: Path, content: dict) -> Path:
    torch.save(content, path)
    return path


def _without(state: dict[str, Tensor], *beginnings: str) -> dict[str, Tensor]:
    return {k: v for k, v in state.items() if not k.startswith(beginnings)}


def _refusal(call) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _options(what: str | None = None, check: Path | None = None, out: Path = Path("initmodel")) -> Namespace:
    return Namespace(what=what, check=check, out=out, whole=None, small=None)


# --- kinds of files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "vgg16_bn"])
def test_torchvision_files_are_recognised(tmp_path: Path, name: str) -> None:
    facts = describe_weights_file(_save(tmp_path / "file.pth", _torchvision(name)))
    assert (facts.backbone, facts.stem, facts.kind) == (name.removesuffix("_bn"), "plain", weight_facts.IMAGENET)
    assert facts.complete and not facts.inside and set(facts.numbers) == {"float32"}


def test_a_file_that_stops_after_a_stage_is_partial(tmp_path: Path) -> None:
    state = _without(_torchvision("resnet50", torch.float16), "layer4", "fc")
    facts = describe_weights_file(_save(tmp_path / "file.pth", state))
    assert (facts.backbone, facts.absent_stages, facts.inside) == ("resnet50", [4], []) and not facts.complete
    assert all(name.startswith("layer4.") for name in facts.missing)
    assert "stage 4" in facts.line() and "float16" in facts.line()
    assert any("partial: true" in line for line in weights.advice(facts))


def test_the_shared_file_stops_after_stage_3(shared: Path) -> None:
    facts = describe_weights_file(shared / "initmodel/resnet50-imagenet-conv1-to-layer3.pth")
    assert (facts.backbone, facts.stem, facts.absent_stages) == ("resnet50", "plain", [4])
    assert set(facts.numbers) == {"float16", "float32"}


def test_checkpoints_are_no_imagenet_weights(tmp_path: Path) -> None:
    encoder = _own("resnet18", "plain")
    config = {
        "run": {"name": "mini_split0"},
        "model": {"name": "symnet"},
        "data": {"name": "mini", "fold": 2, "shot": 5},
    }
    content = {"stage": "meta", "config": config, "weights": {f"encoder.{k}": v for k, v in encoder.items()}}
    content["weights"]["conv1.of.something.else"] = torch.ones(1)
    checkpoint.save(tmp_path / "best.pth", content)
    facts = describe_weights_file(tmp_path / "best.pth")
    assert (facts.kind, facts.stage, facts.backbone, facts.complete) == (weight_facts.OURS, "meta", "resnet18", True)
    assert all(word in facts.line() for word in ("meta", "mini_split0", "fold 2", "5-shot"))
    assert "test.sh" in weights.advice(facts)[0]
    checkpoint.save(tmp_path / "best.pth", {**content, "stage": "base"})
    assert f"run.base_folder: {tmp_path}" in weights.advice(describe_weights_file(tmp_path / "best.pth"))[0]

    signature = ("down_supp.0.weight", "hyper_final.conv1.weight", "CrossAttention.weight")
    theirs = {f"module.{k}": v for k, v in (_own("resnet50", "deep") | {n: torch.ones(1) for n in signature}).items()}
    facts = describe_weights_file(_save(tmp_path / "authors.pth", {"state_dict": theirs, "epoch": 3}))
    assert (facts.kind, facts.backbone, facts.stem) == (weight_facts.PUBLISHED, "resnet50", "deep")
    other = _own("resnet50", "deep") | {"cls.weight": torch.ones(1)}
    assert describe_weights_file(_save(tmp_path / "other.pth", other)).kind == weight_facts.OTHER


# --- files that are refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state",
    [
        _torchvision("vgg16"),
        _torchvision("wide_resnet50_2"),
        _torchvision("resnet152"),
        {"weight": torch.ones(3)},
    ],
    ids=["VGG without batch norm", "wide ResNet", "ResNet-152", "something else"],
)
def test_other_networks_are_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = _save(tmp_path / "file.pth", state)
    assert "has the layout of no encoder" in _refusal(lambda: describe_weights_file(path))


# --- fetching --------------------------------------------------------------------------------------------------------


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Serve a resnet18 file, named by its checksum as torchvision's are, at the address that is asked; return it."""
    folder = tmp_path / "server"
    folder.mkdir()
    file = _save(folder / "resnet18.pth", _torchvision("resnet18"))
    file = file.rename(folder / f"resnet18-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/{file.name}"
    monkeypatch.setattr(weights, "weights_url", lambda network: url)
    yield file
    server.shutdown()
    server.server_close()


def test_weights_are_fetched_checked_and_explained(tmp_path: Path, served: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "initmodel"
    assert weights.run(_options("resnet18", out=out)) == 0
    assert (out / served.name).read_bytes() == served.read_bytes() and len(list(out.iterdir())) == 1
    said = capsys.readouterr().out
    assert "model.encoder.stem: plain" in said and f"model.encoder.weights: {out / served.name}" in said
    before = (out / served.name).stat().st_mtime_ns
    weights.run(_options("resnet18", out=out))
    assert "exists already" in capsys.readouterr().out and (out / served.name).stat().st_mtime_ns == before


def test_a_wrong_checksum_leaves_nothing(tmp_path: Path, served: Path) -> None:
    served.write_bytes(served.read_bytes()[:-1] + b"?")
    out = tmp_path / "initmodel"
    assert "SHA-256" in _refusal(lambda: weights.run(_options("resnet18", out=out)))
    assert not list(out.iterdir())


def test_without_network_the_address_and_the_place_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://127.0.0.1:9/resnet18-01234567.pth"  # nobody listens there
    monkeypatch.setattr(weights, "weights_url", lambda network: url)
    message = _refusal(lambda: weights.run(_options("resnet18", out=tmp_path)))
    assert url in message and str(tmp_path / "resnet18-01234567.pth") in message
    assert not (tmp_path / "resnet18-01234567.pth").exists()


@pytest.mark.parametrize("network", sorted(weights.NETWORKS))
def test_every_network_has_an_address_with_a_checksum(network: str) -> None:
    url = weights.weights_url(network)
    assert url.startswith("https://") and checksum_of(url)
