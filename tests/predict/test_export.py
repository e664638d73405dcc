"""The exported file gives the network's mask, in a process that imports nothing of this project."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from util.data.mini import CLASS_NAMES
from util.data.views import LETTERBOX, to_photo
from util.data.warp import fit_letterbox
from util.predict import Segmenter
from util.predict.export import write_export
from util.predict.photos import read_photo
from util.predict.regions import Marking
from util.predict.supports import parse_support, read_support

ALONE = """
import json, sys, numpy, torch
facts = {"facts.json": ""}
network = torch.jit.load(sys.argv[1], _extra_files=facts)
assert not [name for name in sys.modules if name.split(".")[0] in ("model", "util")]
query = torch.from_numpy(numpy.load(sys.argv[2]))
with torch.no_grad():
    numpy.save(sys.argv[3], network(query).numpy())
print(facts["facts.json"] if isinstance(facts["facts.json"], str) else facts["facts.json"].decode())
"""


def _letterboxed(photo: Path, side: int) -> np.ndarray:
    image = read_photo(photo)
    return fit_letterbox(image, np.zeros(image.shape[:2], np.uint8), side)[0].transpose(2, 0, 1)[None].copy()


def _mask(answer: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the mask of a photo, of ``shape`` (H, W), from probabilities (1, n + 1, S, S)."""
    margins = np.log(answer[0, 1:]) - np.log(answer[0, :1])
    on_photo = np.stack([to_photo(m, shape, LETTERBOX, LETTERBOX, answer.shape[-1]) for m in margins])
    return np.where(on_photo.max(0) > 0, on_photo.argmax(0) + 1, 0)


@pytest.mark.process
def test_the_file_gives_the_same_mask(predict, baseline: Path, marked: dict, drawn_support, photos, tmp_path: Path):
    out, supports = tmp_path / "model.pt", [drawn_support, f"box={marked['box']}"]
    words = ("export", "--config", baseline, "--support", supports[0], "--support", supports[1], "--out", out)
    done = predict(*words)
    assert done.code == 0 and not done.errors.strip(), done.errors
    np.save(tmp_path / "query.npy", _letterboxed(photos[1], 33))
    files = (out, tmp_path / "query.npy", tmp_path / "answer.npy")
    alone = subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, files)], cwd=tmp_path, capture_output=True, text=True
    )
    assert alone.returncode == 0, alone.stderr
    facts = json.loads(alone.stdout)
    assert facts["side"] == 33 and facts["channels"] == ["background", *(s.partition("=")[0] for s in supports)]
    answer = np.load(tmp_path / "answer.npy")
    assert answer.shape == (1, 3, 33, 33) and np.allclose(answer.sum(1), 1, atol=1e-5)
    found = Segmenter(config=baseline, supports=supports)(photos[1]).mask
    assert len(np.unique(found)) > 1 and (_mask(answer, found.shape) != found).mean() < 0.001
    assert "exists already" in predict(*words).error


@pytest.mark.compile
@pytest.mark.parametrize("model", ["", "ssp", "dcama", "sccan", "hsnet"])
def test_every_trained_model_can_be_exported(empty_segmenter, drawn_support, photos, tmp_path: Path, model: str):
    segmenter = empty_segmenter(model)
    segmenter.add(CLASS_NAMES[0], [read_support(parse_support(drawn_support), None, Marking())])
    assert write_export(segmenter, tmp_path / "model.pt") < 1e-4
    query = torch.from_numpy(_letterboxed(photos[1], segmenter.model.view.side))
    answer, found = torch.jit.load(tmp_path / "model.pt")(query).detach().numpy(), segmenter(photos[1]).mask
    assert (_mask(answer, found.shape) != found).mean() < 0.001


@pytest.mark.parametrize(
    ("words", "reason"),
    [(("--out", "{folder}"), "is a folder"), (("--out", "m.pt", "--device", "cuda"), "made on the cpu"), ((), "--out")],
)
def test_refusals(predict, weights: Path, drawn_support, tmp_path: Path, words: tuple[str, ...], reason: str) -> None:
    words = [word.replace("{folder}", str(tmp_path)) for word in words]
    assert reason in predict("export", "--checkpoint", weights, "--support", drawn_support, *words).error
    assert "no supports" in predict("export", "--checkpoint", weights, "--out", tmp_path / "m.pt").error
