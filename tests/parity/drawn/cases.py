"""The cases on drawn images through our networks: the values that differ from the published ones."""

import functools
import json
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tests.parity.case import GRADIENTS, forward_case
from tests.parity.compare import Arrays, deviations, gradient_deviations
from tests.parity.drawn.drawn import episode, word_vectors
from tests.parity.drawn.weights import filled

FOLDER = Path(__file__).parent
IMAGES = ("query", "query_label", "support", "support_label")  # in the order of the check sums
ONE_SHOT, FIVE_SHOT = "layout_1shot", "layout_5shot"  # names and shapes of the weights; where shots have some, of five
LAYOUT = "layout"  # of the weights of one case
INPUTS = {"inputs_crc32", "seed", "shots", "side", "scales", "grid", "cat", LAYOUT}
FIRST_BASE = 6  # class of PASCAL's fold 0
LOUDER: dict[str, Callable[[Tensor], Tensor]] = {  # by the ends of names, what HMNet's weights have
    "A_logs": lambda x: torch.arange(1.0, x.shape[1] + 1).log() + 0.25 * x,
    "dt_projs_bias": lambda x: 10 * x - 3.5,
    "x_proj_weight": lambda x: 4 * x,
    "dt_projs_weight": lambda x: 8 * x,
    "kshot_rw.0.bias": lambda x: 1 + x,
    "kshot_rw.2.weight": lambda x: 2 * x,
}


def drawn_cases() -> list[tuple[str, str]]:
    """Return (method, case) of all cases, but where five shots of the same weights and side include one shot."""
    found = []
    for path in sorted(FOLDER.glob("*.npz")):
        with np.load(path) as file:
            names = [key.partition("/")[0] for key in file.files if key.endswith("/seed")]
            is_included = FIVE_SHOT not in file.files
        found += [(path.stem, name) for name in names if not (is_included and name == "1shot")]
    return found


def deviations_of_drawn(model: str, name: str, device: str = "cpu") -> list[str]:
    """Return each value of a case that differs by more than its bound, in words."""
    file = np.load(FOLDER / f"{model}.npz")
    stored = {key.removeprefix(f"{name}/"): file[key] for key in file if key.startswith(f"{name}/")}
    layout = FIVE_SHOT if stored["shots"] > 1 and FIVE_SHOT in file else ONE_SHOT
    weights = _filled(model, stored.get(LAYOUT, file[layout]).tobytes())
    case = stored | _images(stored)
    norms = stored.pop(GRADIENTS, None)
    encoder, _, _ = name.partition("_")
    ours = forward_case(
        model,
        case,
        weights,
        backbone="vgg16" if encoder == "vgg16" else "resnet50",
        train=norms is not None,
        vectors=word_vectors() if model == "symnet" else None,
        device=device,
    )
    found = deviations(ours, {key: stored[key] for key in sorted(stored.keys() - INPUTS)})
    if norms is not None:
        found += gradient_deviations(ours[GRADIENTS], json.loads(norms.tobytes()))
    return found


def joined(seeds: Iterable[int], shots: int, side: int) -> Arrays:
    """Return the arrays of drawn episodes as a batch."""
    episodes = [episode(int(seed), shots, side) for seed in seeds]
    return {name: np.concatenate([each[name] for each in episodes]) for name in episodes[0]}


def check_sum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


def _images(stored: Arrays) -> Arrays:
    """Return the images of a case, (..., S, S, 3), with labels and classes."""
    side = int(stored["side"])
    drawn = joined(np.atleast_1d(stored["seed"]), int(stored["shots"]), side)
    if "cat" in stored:
        top = side // 3
        drawn["query_label"][:, top : top + side // 12] = 255
        drawn["class_id"] = stored["cat"] + FIRST_BASE
    assert [check_sum(drawn[key]) for key in IMAGES] == stored["inputs_crc32"].tolist(), "other images are drawn"
    for key in ("query", "support"):
        drawn[key] = np.moveaxis(drawn[key], -3, -1)
    return drawn


@functools.lru_cache(maxsize=1)  # the cases of a method come one after the other
def _filled(model: str, layout: bytes) -> dict[str, Tensor]:
    """Return the weights of a layout under their published names."""
    state = filled(json.loads(layout))
    if model == "hmnet":
        for end, change in LOUDER.items():
            state |= {name: change(value) for name, value in state.items() if name.endswith(end)}
    return state
