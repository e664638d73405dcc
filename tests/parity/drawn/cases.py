"""The cases on drawn images through our networks: the tensors that differ from the published ones."""

import functools
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from tests.parity.case import forward_case
from tests.parity.drawn.drawn import episode, word_vectors
from tests.parity.drawn.weights import filled

FOLDER = Path(__file__).parent
BOUND = 1e-4  # of a tensor's norm; a band of 255 that is read as object moves outputs by 9e-4 and more
EQUAL = "votes"  # has no rounding
IMAGES = ("query", "query_label", "support", "support_label")  # in the order of the check sums
ONE_SHOT, FIVE_SHOT = "layout_1shot", "layout_5shot"  # names and shapes of the weights; where shots have some, of five
INPUTS = {"inputs_crc32", "seed", "shots", "side", "scales"}


def drawn_cases() -> list[tuple[str, str]]:
    """Return (method, case) of all cases, but where five shots of the same weights and side include one shot."""
    found = []
    for path in sorted(FOLDER.glob("*.npz")):
        with np.load(path) as file:
            names = [key.partition("/")[0] for key in file.files if key.endswith("/seed")]
            is_included = FIVE_SHOT not in file.files
        found += [(path.stem, name) for name in names if not (is_included and name == "1shot")]
    return found


def deviations(model: str, name: str, device: str = "cpu") -> Iterator[str]:
    """Yield each tensor of a case that differs by more than its bound, with the difference in words."""
    stored = _arrays(model, name)
    drawn = episode(*(int(stored[key]) for key in ("seed", "shots", "side")))
    check_sums = [zlib.crc32(np.ascontiguousarray(drawn[key]).tobytes()) for key in IMAGES]
    assert check_sums == stored["inputs_crc32"].tolist(), "other images are drawn"
    case = {**stored, **drawn}
    for key in ("query", "support"):
        case[key] = np.moveaxis(drawn[key], -3, -1)
    vectors = word_vectors() if model == "symnet" else None
    weights = _weights(model, int(stored["shots"]))
    ours = forward_case(model, case, weights, backbone="resnet50", vectors=vectors, device=device)
    for key in sorted(stored.keys() - INPUTS):
        apart = _apart(ours[key], stored[key])
        if apart > (0 if key == EQUAL else BOUND):
            yield f"{key}: {apart:.2g} of its norm"


def _apart(given: np.ndarray, stored: np.ndarray) -> float:
    """Return the norm of the difference of two tensors, as a share of the stored one's."""
    want = stored.astype(np.float64)
    assert given.size == want.size
    return float(np.linalg.norm(given.reshape(want.shape) - want) / np.linalg.norm(want))


def _arrays(model: str, name: str) -> dict[str, np.ndarray]:
    """Return the arrays of a case."""
    with np.load(FOLDER / f"{model}.npz") as file:
        keys = [key for key in file.files if key.startswith(f"{name}/")]
        return {key.partition("/")[2]: file[key] for key in keys}


def _weights(model: str, shots: int) -> dict[str, Tensor]:
    """Return the weights of a method's network for so many shots, under their published names."""
    with np.load(FOLDER / f"{model}.npz") as file:
        layout = FIVE_SHOT if shots > 1 and FIVE_SHOT in file.files else ONE_SHOT
        return _filled(file[layout].tobytes())


@functools.lru_cache(maxsize=1)  # the cases of a method come one after the other
def _filled(layout: bytes) -> dict[str, Tensor]:
    return filled(json.loads(layout))
