"""Published folders: the same weights, config and predictions; and the entry points of ``torch.hub``."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml

from photos import Segmenter
from tests.helpers.paths import REPOSITORY
from util.config.read import from_dict, read_config, to_dict
from util.evaluate.calibration import FILE, FORMAT, Calibration, key_of
from util.files.errors import UserError
from util.run import checkpoint


@pytest.fixture
def weights(make_checkpoint, tmp_path: Path) -> Path:
    """Return a copy of a checkpoint, beside which a test may write."""
    return Path(shutil.copy(make_checkpoint(), tmp_path / "weights.pth"))


def test_a_published_folder_is_the_checkpoint(predict, weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    words = ("publish", "--checkpoint", weights, "--out", folder)
    assert predict(*words).code == 0
    before, after = checkpoint.read(weights).entries, Segmenter.from_pretrained(folder, device="cpu").model
    assert checkpoint.digest_of(before["weights"]) == after.weights.digest
    config = read_config(folder / "config.json")
    assert to_dict(config) == to_dict(from_dict(before["config"], "weights"))
    facts, text = (folder / "README.md").read_text().removeprefix("---\n").split("---\n", 1)
    assert yaml.safe_load(facts)["datasets"] == [config.data.name]
    assert "train_base.py FOLDER/config.json" in text
    assert str(folder) in predict(*words).error


def test_half_precision_rounds_the_weights(predict, weights: Path, tmp_path: Path) -> None:
    assert predict("publish", "--half", "--checkpoint", weights, "--out", tmp_path / "half").code == 0
    network = Segmenter(tmp_path / "half", device="cpu").model.network
    whole = checkpoint.read(weights).weights
    for name, tensor in network.state_dict().items():
        rounded = whole[name].half().float() if whole[name].is_floating_point() else whole[name]
        assert torch.equal(tensor, rounded)


def test_half_precision_keeps_the_calibration(predict, weights: Path, tmp_path: Path) -> None:
    calibration = Calibration(FORMAT, "x", _key(weights), "x", 1.0, 0.0, [1.0] + [0.0] * 5, 0.0, 0.5)
    (tmp_path / FILE).write_text(yaml.safe_dump(asdict(calibration), sort_keys=False))
    assert predict("publish", "--half", "--checkpoint", weights, "--out", tmp_path / "half").code == 0
    assert Segmenter(tmp_path / "half", device="cpu").calibration is not None


def _key(weights: Path) -> str:
    """Return what binds a calibration to a checkpoint."""
    content = checkpoint.read(weights).entries
    return key_of(from_dict(content["config"], "weights"), checkpoint.digest_of(content["weights"]))


def test_values_that_half_precision_does_not_hold_are_refused() -> None:
    with pytest.raises(UserError, match=r"best.pth: decoder.bias"):
        checkpoint.halved({"decoder.bias": torch.tensor([1e6])}, "best.pth")


@pytest.fixture
def without_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no test before know the installed package's names, and no test after those of the hub's package."""
    finders = [finder for finder in sys.meta_path if type(finder).__module__ != "util.config.imports"]
    monkeypatch.setattr(sys, "meta_path", finders)
    others = _take_package()
    yield
    _take_package()
    sys.modules.update(others)


def _take_package() -> dict[str, ModuleType]:
    """Return the modules of the package ``symnet`` that are loaded, which are none any more."""
    names = [name for name in sys.modules if name.partition(".")[0] == "symnet"]
    return {name: sys.modules.pop(name) for name in names}


def test_torch_hub_gives_segmenters_and_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_package: None
) -> None:
    monkeypatch.chdir(tmp_path)
    hub = {"repo_or_dir": str(REPOSITORY), "source": "local"}
    shipped = checkpoint.read(REPOSITORY / "initmodel" / "pocket_lite0_voc.safetensors").weights
    pocket = torch.hub.load(**hub, model="segmenter", device="cpu").model.network.state_dict()
    assert all(torch.equal(tensor, shipped[name].to(tensor.dtype)) for name, tensor in pocket.items())
    network = torch.hub.load(**hub, model="ssp", net="resnet10", dataset="mini")
    assert type(network).__module__ == "symnet.model.ssp.ssp"
    assert not network.training


HUB = """
import multiprocessing, sys, torch
names = ("annotations", "model", "photos", "util")
for name in names:
    open(f"{name}.py", "w").write("mine = True")
import util
segmenter = torch.hub.load(sys.argv[1], "segmenter", source="local", device="cpu")
import annotations, model, photos
assert all(sys.modules[name].mine for name in names)
from symnet.util.evaluate import refine
import numpy as np
refine.MANY = 1
many = refine.refined_photos([np.zeros((9, 9, 3), np.uint8)], [np.ones((1, 9, 9), np.float32)])
print(len(many), segmenter)
"""


@pytest.mark.process
def test_beside_torch_hub_a_program_keeps_its_packages(tmp_path: Path) -> None:
    """Nearly every repository of this field has packages of these names; processes of the segmenter's find it, too."""
    words = [sys.executable, "-c", HUB, REPOSITORY]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert ended.stdout.startswith("1 <Segmenter"), ended.stderr


def test_another_package_symnet_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = ModuleType("symnet")
    other.__file__ = str(tmp_path / "symnet" / "__init__.py")
    monkeypatch.setitem(sys.modules, "symnet", other)
    with pytest.raises(ImportError, match=f"another package 'symnet' .*{tmp_path.name}"):
        torch.hub.load(str(REPOSITORY), "segmenter", source="local")
