"""Fixtures of the tests of predictions: checkpoints with random weights, annotated photos, ``predict.py`` itself."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from photos import Segmenter
from tests.helpers.outcome import Outcome, run_script
from util.config.read import read_config, to_dict
from util.data.mini import CLASS_NAMES
from util.files.mask_images import read_mask, write_mask
from util.run.build import build_model
from util.run.run import Run
from util.weights import checkpoint

WIDTH, HEIGHT = 60, 44  # of the photos that the tests mark
BOX = (12, 8, 40, 30)  # x0, y0, x1, y1 of their object


@dataclass
class Made:
    """Checkpoints and networks that the tests of this folder share, and their folder."""

    folder: Path
    checkpoints: dict[tuple[str, tuple[str, ...]], Path] = field(default_factory=dict)  # (model, overrides) -> file
    segmenters: dict[str, Segmenter] = field(default_factory=dict)  # by model


@pytest.fixture
def predict(capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Return a function that runs ``predict.py`` with arguments in this process and gives the outcome."""

    def call(*arguments: object) -> Outcome:
        return run_script("predict.py", arguments, capfd, monkeypatch)

    return call


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Return the checkpoints and networks that all tests share."""
    return Made(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture
def make_checkpoint(mini_yaml, made: Made) -> Callable[..., Path]:
    """Return a function that gives a checkpoint of a model with random weights, in the format of a training."""

    def make(model: str = "", *overrides: str) -> Path:
        key = (model, overrides)
        if key not in made.checkpoints:
            config = read_config(mini_yaml(model or "symnet"), list(overrides))
            run = Run(config)
            weights = build_model(config, run.text_width).state_dict()
            content = {"stage": "meta", "config": to_dict(config), "weights": weights, "text": run.text_digest}
            path = made.folder / f"{model or 'symnet'}{len(made.checkpoints)}.pth"
            checkpoint.save(path, content)
            made.checkpoints[key] = path
        return made.checkpoints[key]

    return make


@pytest.fixture
def empty_segmenter(make_checkpoint, made: Made) -> Callable[[str], Segmenter]:
    """Return a function that gives a segmenter of a model without classes; its network is loaded once."""

    def give(model: str = "") -> Segmenter:
        if model not in made.segmenters:
            made.segmenters[model] = Segmenter(checkpoint=make_checkpoint(model), device="cpu")
        return made.segmenters[model].without_classes()

    return give


@pytest.fixture
def baseline(mini_yaml, made: Made) -> Path:
    """Return a config of the baseline, which needs no checkpoint and segments something with random weights."""
    path = made.folder / "baseline.yaml"
    if not path.exists():
        shutil.copy(mini_yaml("prototype"), path)
    return path


@pytest.fixture
def baseline_words(baseline: Path, example_texts: dict[str, str]) -> tuple[object, ...]:
    """Return the words of a command line that name the baseline and a support."""
    return "--config", baseline, "--support", example_texts["box"]


@pytest.fixture
def photos(mini_root: Path) -> list[Path]:
    """Return the first three photos of the synthetic data set."""
    return sorted((mini_root / "JPEGImages").iterdir())[:3]


@pytest.fixture(scope="session")
def example_texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return one region of one photo annotated in every way: kind -> text of ``--support``."""
    folder = tmp_path_factory.mktemp("annotated")
    pixels = np.random.default_rng(0).integers(0, 90, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    x0, y0, x1, y1 = BOX
    pixels[y0:y1, x0:x1] += 150
    photo = folder / "annotated.png"
    Image.fromarray(pixels).save(photo)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[y0:y1, x0:x1] = 1
    Image.fromarray(mask).save(folder / "index.png")
    return {"index": f"{photo}:{folder}/index.png", "box": f"{photo}:box={x0},{y0},{x1},{y1}"}


@pytest.fixture
def drawn_support(mini_root: Path, tmp_path: Path) -> str:
    """Return a support of the synthetic data set, of a class that the data set has."""
    photo = sorted((mini_root / "JPEGImages").iterdir())[0]
    mask = tmp_path / "drawn_support.png"
    write_mask(mask, (read_mask(mini_root / f"SegmentationClassAug/{photo.stem}.png") > 0).astype(np.uint8))
    return f"{CLASS_NAMES[0]}={photo}:{mask}"
