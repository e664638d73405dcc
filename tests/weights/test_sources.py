"""Downloads of an encoder's weights: a file that is not in its cache, or is not what its name says."""

from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from torchvision import models

from tests.helpers.read import config_of
from util.files.errors import UserError
from util.run.begin import Asked
from util.run.rehearsal import dry_run
from util.weights.sources import download


@pytest.mark.parametrize("content", [b"PK\3\4 cut", b"<!DOCTYPE html><html></html>"])
def test_a_damaged_file_in_torchs_cache_is_one_line(tmp_path: Path, monkeypatch, content: bytes) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    file = tmp_path / "checkpoints" / Path(models.ResNet50_Weights.IMAGENET1K_V1.url).name
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"could not download resnet50 .*; remove a damaged file below {tmp_path}"):
        download("torchvision", "resnet50", "resnet50", "key")


CACHED = {  # encoders whose weights are downloaded, their file in a cache, and what fetches it
    "resnet50_plain": ("checkpoints/resnet50-0676ba61.pth", "get_model('resnet50', weights='IMAGENET1K_V1')"),
    "timm/resnet18": ("models--timm--resnet18.a1_in1k/snapshots/a/model.safetensors", "'timm/resnet18.a1_in1k'"),
}


@pytest.mark.parametrize("net", CACHED)
def test_a_dry_run_names_weights_that_are_not_here(mini_root, tmp_path: Path, monkeypatch, capsys, net: str) -> None:
    file, fetched_by = CACHED[net]
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    of_data = f"data.root={mini_root}", f"data.cache={tmp_path}", "data.min_pixels=100"
    config = config_of("split0", "mini", "ssp", net, overrides=[*of_data, f"run.folder={tmp_path}"])
    for is_there in (False, True):
        dry_run(config, Asked(), 1)
        assert (fetched_by not in capsys.readouterr().out) == is_there
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
