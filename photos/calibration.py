"""A calibration of a method: pixel probabilities from margins, and the probability that a photo shows a class.

Both are logistic regressions fitted on base classes (``calibrate.py``), kept in a small YAML file, which
belongs to the weights and settings that it was made with.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from model.decides import Decides
from model.tensors.ops import resize
from util.config.read import to_dict
from util.config.same import deciding
from util.config.settings import Config
from util.files.errors import as_user_error, log
from util.files.project import REPOSITORY
from util.files.reading import read_text
from util.files.typecheck import Misfit, convert
from util.files.yaml_text import read_yaml
from util.run.run import TRAINING_FREE, UNTRAINED, Run

QUANTILES = (0.99, 0.9, 0.5)  # of the margin
MARGIN_NUMBERS = len(QUANTILES) + 3  # numbers that come from the margin: quantiles, mean, deviation, share above 0
EVEN_OVERLAP = 0.5  # the IoU that makes a mask right, for its score
LEAST = 1e-4  # of probabilities and their complements, in logits
GRID = 128  # longest side of the margin when its statistics are taken, so that they hardly depend on the photo's size


def presence_inputs(margin_hw: Tensor, features_e: Tensor | None) -> Tensor:
    """Return the inputs (F,) float32 of a class's presence score: of the margin quantiles, mean, deviation, share > 0.

    The margin (H, W) is of the photo's pixels alone, without padding; the model's features (E,), if any, come last.
    """
    shrink = min(GRID / max(margin_hw.shape), 1)
    size = tuple(max(round(side * shrink), 1) for side in margin_hw.shape)
    values = resize(margin_hw[None, None].float(), size).flatten()
    quantiles = torch.stack([values.quantile(share) for share in QUANTILES])
    moments = torch.stack([values.mean(), values.std(correction=0), (values > 0).float().mean()])
    features = [] if features_e is None else [features_e.float()]
    return torch.cat([quantiles, moments, *features])


FORMAT: Literal["sym-net-calibration/1"] = "sym-net-calibration/1"
FILE = "calibration.yaml"
SHIPPED = REPOSITORY / "config" / "calibration"
MAKE_AGAIN = "make it again: python predict.py calibrate CONFIG"


@dataclass(frozen=True)
class MaskScore:
    """The weights of a mask's score: of the logits of the presence score and of its pixels' mean probability."""

    presence: float
    pixels: float
    bias: float


@dataclass(frozen=True)
class Calibration:
    """The content of a calibration's file.

    A pixel's probability, in a photo that shows the class, is sigmoid(scale * margin + offset), and the probability of
    presence sigmoid(weights . inputs + bias). The score of a mask is that of an overlap with the object by half.
    """

    calibration: Literal["sym-net-calibration/1"]
    model: str  # the name of the method, for people
    made_for: str  # digest of weights and model settings
    made_on: str  # data set, fold, episodes and so on, in words
    scale: float
    offset: float
    weights: list[float]
    bias: float
    threshold: float  # least probability of presence with which a mask is shown
    precision: str | None = None  # that the network computed in, for people
    mask: MaskScore | None = None  # None of a calibration that was made without it

    def margins(self, margins: np.ndarray) -> np.ndarray:
        """Return calibrated margins, whose softmax beside the background's 0 gives probabilities."""
        return (self.scale * margins + self.offset).astype(np.float32)

    def presence(self, inputs: np.ndarray) -> float:
        """Return the probability that a photo shows a class by ``presence_inputs`` (F,); ValueError for another F."""
        return sigmoid(float(np.dot(self.weights, inputs.astype(np.float64))) + self.bias)

    def score(self, presence: float, pixels: float) -> float:
        """Return the probability that the IoU of a mask with the object is at least ``EVEN_OVERLAP``.

        It depends on the presence score and on the mean probability of the mask's pixels, which it is without ``mask``.
        """
        if self.mask is None:
            return pixels
        return sigmoid(self.mask.presence * logit(presence) + self.mask.pixels * logit(pixels) + self.mask.bias)


def sigmoid(x: float) -> float:
    """Return 1 / (1 + exp(-x)) without overflow."""
    return float(np.exp(-np.logaddexp(0.0, -x)))


def logit(probability: float) -> float:
    """Return the x whose sigmoid is a probability, or the nearest one that is ``LEAST`` from 0 and 1."""
    inside = min(max(probability, LEAST), 1 - LEAST)
    return float(np.log(inside / (1 - inside)))


def key_of(config: Config, weights: str) -> str:
    """Return the digest of a network's weights and of the model settings that change its scores."""
    section = deciding(to_dict(config), Decides.WEIGHTS)["model"]
    return hashlib.sha256(f"{weights} {json.dumps(section, sort_keys=True)}".encode()).hexdigest()


def calibration_path(config: Config, source: str) -> Path:
    """Return the path of the calibration beside a checkpoint, or in the run's folder for methods that learn nothing."""
    beside = Run(config).folder("test") if source in (TRAINING_FREE, UNTRAINED) else Path(source)
    return beside.with_name(FILE)


def find_calibration(config: Config, source: str, weights: str) -> Calibration | None:
    """Return a network's calibration, the run's or a shipped one, or None.

    Args:
        config: of the network.
        source: the origin of the weights, as in ``util/run/weights.py``.
        weights: the digest of all tensors.

    Raises:
        UserError: a file is damaged, or is no calibration.
    """
    key = key_of(config, weights)
    path_of_run = calibration_path(config, source)
    for path in filter(Path.exists, (path_of_run, *sorted(SHIPPED.glob("*.yaml")))):
        calibration = _read(path)
        if calibration.made_for == key:
            return calibration
    if path_of_run.exists():
        log.warning("%s: is of other weights or model settings, so it is not used; %s", path_of_run, MAKE_AGAIN)
    return None


def _read(path: Path) -> Calibration:
    """Return the calibration of a file; UserError if it is damaged, or none."""
    text = read_text(path, "this calibration", MAKE_AGAIN)
    damaged = f"{path}: no calibration of this project, or a damaged one ("
    with as_user_error(ValueError, Misfit, before=damaged, after=f"); {MAKE_AGAIN}"):
        return convert(Calibration, read_yaml(text), "")
