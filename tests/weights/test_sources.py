"""Downloads of an encoder's weights: a file in torch's cache that is not what its name says."""

import hashlib
from pathlib import Path

import pytest
import torch
from torchvision import models

from util.files.errors import UserError
from util.weights.sources import download, print_download


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
    with pytest.raises(UserError, match="could not download resnet50"):  # as its name says, but no weights
        download("torchvision", "resnet50", "resnet50")


def test_a_download_states_its_size_and_licence_before(capsys) -> None:
    encoder = torch.nn.Linear(1000, 1000, bias=False)
    encoder.licence = "apache-2.0"
    print_download("package", encoder)
    print_download("timm", encoder)
    assert capsys.readouterr().err.splitlines() == [
        "note: the encoder's weights come from timm: about 4 MB, once; licence: apache-2.0"
    ]
