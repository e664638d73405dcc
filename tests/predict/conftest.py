"""What the tests of predictions share: checkpoints with random weights, marked photos, predict.py as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.outcome import Outcome, run_script
from tests.predict.marked import BOX, HEIGHT, WIDTH
from util.config.read import read_config, to_dict
from util.data.mini import CLASS_NAMES
from util.engine import checkpoint
from util.engine.network import new_model
from util.engine.run_context import make_run_context


class Lone(Outcome):
    """One whose error is all that stderr holds."""

    @property
    def error(self) -> str:
        """The one line on stderr, beside progress bars that were there and went; fails if there is anything else."""
        assert self.code == 2, self.errors
        lines = [line for line in self.errors.replace("\r", "\n").split("\n") if line.strip() and "| 0" not in line]
        assert len(lines) == 1 and lines[0].startswith("error: "), self.errors
        return lines[0]


@pytest.fixture
def predict(capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Return a function that runs ``predict.py`` with arguments and gives how it ended."""

    def call(*arguments: object) -> Outcome:
        return run_script("predict.py", arguments, capfd, monkeypatch, Lone)

    return call


@pytest.fixture
def make_checkpoint(mini_yaml, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a checkpoint of a model with random weights, as a training writes it."""

    def make(model: str = "", *overrides: str) -> Path:
        name = "_".join(filter(None, ("mini_split0", model, "resnet10.yaml")))
        size = 64 if model == "dcama" else 33
        path = mini_yaml(name, model={"encoder": {"weights": None}}, data={"size": size})
        config = read_config(path, list(overrides))
        context = make_run_context(config)
        content = {"stage": "meta", "config": to_dict(config), "weights": new_model(context).state_dict()}
        out = tmp_path / f"{model or 'symnet'}{len(overrides)}.pth"
        checkpoint.save(out, {**content, checkpoint.TEXT: context.text_digest})
        return out

    return make


@pytest.fixture
def weights(make_checkpoint) -> Path:
    """Return a checkpoint of Sym-Net."""
    return make_checkpoint()


@pytest.fixture
def baseline(mini_yaml) -> Path:
    """Return a config of the baseline, which needs no checkpoint and finds something with random weights."""
    return mini_yaml("mini_split0_prototype_resnet10.yaml", model={"encoder": {"weights": None}})


@pytest.fixture
def photos(mini_root: Path) -> list[Path]:
    """Return some photos of the drawn data set."""
    return sorted((mini_root / "JPEGImages").iterdir())[:6]


@pytest.fixture
def marked(tmp_path: Path) -> dict[str, str]:
    """Return one region of one photo marked in every way, as ``--support`` takes it: kind -> text."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 90, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    x0, y0, x1, y1 = BOX
    pixels[y0:y1, x0:x1] += 150
    photo = tmp_path / "marked.png"
    Image.fromarray(pixels).save(photo)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[y0:y1, x0:x1] = 1
    files = {
        "index": Image.fromarray(mask),
        "grey": Image.fromarray(255 * mask),
        "bit": Image.fromarray(mask.astype(bool)),
        "colours": Image.fromarray(np.stack([0 * mask, 7 * mask, 0 * mask], 2)),
        "transparent": Image.fromarray(np.dstack([np.full((HEIGHT, WIDTH, 3), 200, np.uint8), 255 * mask])),
    }
    for name, image in files.items():
        image.save(tmp_path / f"{name}.png")
    corners = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
    labelme = {"shapes": [{"label": "cat", "points": corners, "shape_type": "polygon"}], "imagePath": photo.name}
    (tmp_path / "polygon.json").write_text(json.dumps(labelme))
    labelme["shapes"][0] |= {"points": [[x1, y1], [x0, y0]], "shape_type": "rectangle"}
    (tmp_path / "rectangle.json").write_text(json.dumps(labelme))
    coco = {
        "images": [{"id": 3, "file_name": f"train/{photo.name}", "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 9, "name": "cat"}],
        "annotations": [{"image_id": 3, "category_id": 9, "segmentation": [np.ravel(corners).tolist()]}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    kinds = {name: f"{photo}:{tmp_path / name}.png" for name in files}
    kinds |= {name: f"{photo}:{tmp_path / name}.json" for name in ("polygon", "rectangle", "coco")}
    return kinds | {"box": f"{photo}:box={x0},{y0},{x1},{y1}"}


@pytest.fixture
def drawn_support(mini_root: Path) -> str:
    """Return a support of the drawn data set, and know that its class is one of those."""
    photo = sorted((mini_root / "JPEGImages").iterdir())[0]
    return f"{CLASS_NAMES[0]}={photo}:{mini_root / 'SegmentationClassAug' / photo.stem}.png"
