"""Exported files give the network's probabilities, in a process that imports nothing of this project."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.predict.conftest import SIDE
from util.data.images.views import LETTERBOX, View
from util.errors import UserError
from util.export import export as exporting
from util.export.export import FACTS, write_export
from util.predict import Segmenter
from util.predict.supports import parse_support, read_photo

LOADERS = {"pt2": "lambda path: torch.export.load(path).module()", "onnx": "onnx_file"}
ALONE = """
import json, sys, numpy, torch
from pathlib import Path

def onnx_file(path):
    import onnxruntime
    session = onnxruntime.InferenceSession(path)
    def run(*tensors):
        names = [given.name for given in session.get_inputs()]
        return [torch.from_numpy(x) for x in session.run(None, dict(zip(names, (t.numpy() for t in tensors))))]
    return run

folder = Path(sys.argv[1])
facts = json.loads((folder / "export.json").read_text())
load = {loader}
supports, query = (load(str(folder / facts["files"][part])) for part in ("supports", "query"))
given = numpy.load(sys.argv[2])
with torch.no_grad():
    state = supports(*(torch.from_numpy(given[x["name"]]) for x in facts["supports"]["inputs"]))
    assert [list(x.shape) for x in state] == [x["shape"] for x in facts["query"]["inputs"][1:]]
    answers = [query(torch.from_numpy(photo[None]), *state) for photo in given["query"]]
    answers = torch.cat([x if isinstance(x, torch.Tensor) else x[0] for x in answers])
    assert list(answers[:1].shape) == facts["query"]["outputs"][0]["shape"]
assert not [name for name in sys.modules if name.split(".")[0] in ("model", "util")]
numpy.save(sys.argv[3], answers.numpy())
"""


def _letterboxed(photo: Path, side: int) -> np.ndarray:
    return View(LETTERBOX, side, side).image(read_photo(photo)).transpose(2, 0, 1)


def _mask(answer: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the mask of a photo, of ``shape`` (H, W), from probabilities (n + 1, S, S)."""
    margins = np.log(answer[1:]) - np.log(answer[:1])
    view = View(LETTERBOX, answer.shape[-1], answer.shape[-1])
    on_photo = np.stack([view.back(m, shape, LETTERBOX) for m in margins])
    return np.where(on_photo.max(0) > 0, on_photo.argmax(0) + 1, 0)


@pytest.mark.process
@pytest.mark.parametrize("name", LOADERS)
def test_the_files_give_the_same_masks(
    predict, baseline: Path, marked: dict, drawn_support, photos, tmp_path: Path, name: str
) -> None:
    if name == "onnx":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (requirements-export.txt)")
    out, supports = tmp_path / "out", [drawn_support, f"box={marked['box']}"]
    words = ("export", "--config", baseline, "--format", name, "--out", out)
    done = predict(*words, "--support", supports[0], "--support", supports[1])
    assert done.code == 0 and not done.errors.strip(), done.errors
    segmenter = Segmenter(config=baseline, supports=supports)
    queries = np.stack([_letterboxed(photo, SIDE) for photo in photos])
    given = {name: x.numpy() for name, x in exporting._inputs(segmenter).items()}
    np.savez(tmp_path / "given.npz", query=queries, **given)
    files = (out, tmp_path / "given.npz", tmp_path / "answer.npy")
    script = ALONE.replace("{loader}", LOADERS[name])
    alone = subprocess.run([sys.executable, "-c", script, *map(str, files)], cwd=tmp_path, capture_output=True)
    assert alone.returncode == 0, alone.stderr.decode()
    facts, answers = json.loads((out / FACTS).read_text()), np.load(files[2])
    names = [text.partition("=")[0] for text in supports]
    assert facts["canvas"]["side"] == SIDE and [known["name"] for known in facts["classes"]] == names
    assert np.allclose(answers.sum(1), 1, atol=1e-5)
    for answer, photo in zip(answers, photos, strict=True):
        found = segmenter(photo).mask
        assert (_mask(answer, found.shape) != found).mean() < 0.001
    assert "not empty" in predict(*words).error


@pytest.mark.compile
@pytest.mark.parametrize("model", ["", "ssp", "dcama", "sccan", "hsnet", "pocket"])
def test_every_method_equals_its_files(empty_segmenter, drawn_support, tmp_path: Path, model: str) -> None:
    segmenter = empty_segmenter(model)
    segmenter.add("disc", [parse_support(drawn_support).read()])
    assert write_export(segmenter, tmp_path / "out", "pt2") < exporting.MAX_DIFFERENCE


@pytest.mark.compile
def test_a_file_that_differs_is_removed(
    predict, baseline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "MAX_DIFFERENCE", -1.0)
    error = predict("export", "--config", baseline, "--out", tmp_path / "out").error
    assert "removed" in error and not list(tmp_path.glob("*out*"))


def test_a_method_that_cannot_be_exported_says_so(
    empty_segmenter: Callable[[str], Segmenter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = empty_segmenter("ssp")
    before = list(tmp_path.iterdir())
    monkeypatch.setattr(type(segmenter.model.network), "cannot_export", "it clusters positions")
    with pytest.raises(UserError, match="SSP: cannot be exported: it clusters positions"):
        write_export(segmenter, tmp_path / "out", "pt2")
    assert list(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--out", "{full}"), "not empty"),
        (("--out", "{full}", "--overwrite"), "holds other files"),
        (("--out", "{file}/out"), "Not a directory"),
    ],
)
def test_refusals(predict, baseline: Path, tmp_path: Path, words: tuple[str, ...], reason: str) -> None:
    file, full = tmp_path / "file", tmp_path / "full"
    full.mkdir()
    for path in (file, full / "photo.jpg"):
        path.write_text("")
    before = sorted(tmp_path.rglob("*"))
    given = [word.replace("{file}", str(file)).replace("{full}", str(full)) for word in words]
    assert reason in predict("export", "--config", baseline, *given).error
    assert sorted(tmp_path.rglob("*")) == before
