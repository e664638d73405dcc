"""Downloads of an encoder's weights: a file in torch's cache that is not what its name says."""

from pathlib import Path

import pytest
import torch
from torchvision import models

from util.files.errors import UserError
from util.weights.sources import download


@pytest.mark.parametrize("content", [b"PK\3\4 cut", b"<!DOCTYPE html><html></html>"])
def test_a_damaged_file_in_torchs_cache_is_one_line(tmp_path: Path, monkeypatch, content: bytes) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    file = tmp_path / "checkpoints" / Path(models.ResNet50_Weights.IMAGENET1K_V1.url).name
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"could not download resnet50 .*; remove a damaged file below {tmp_path}"):
        download("torchvision", "resnet50", "resnet50", "key")
