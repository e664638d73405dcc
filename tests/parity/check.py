"""Our tensors of a measured case beside the published ones: those that deviate by more than their bound."""

import functools
import json
import re
from pathlib import Path

import numpy as np
from torch import Tensor

from tests.helpers.close import ROUNDING
from tests.helpers.paths import SHARED
from tests.parity.abcdfss import abcdfss_case
from tests.parity.case import forward_case
from tests.parity.drawn.weights import state_of
from tests.parity.insid3 import insid3_case
from util.data.words.text import read_vectors

SYMNET, INSID3, ABCDFSS = "symnet", "insid3", "abcdfss"
INPUTS = {"query", "query_label", "query_base_label", "support", "support_label", "class_id"}
INPUTS |= {"scales", "refine", "shot", "shears", "steps"}
# Of outputs and intermediates.
ABSOLUTE = dict.fromkeys(("symnet", "dcama", "hdmnet", "bam"), 1e-3)
ABSOLUTE |= dict.fromkeys(("ssp", "sccan", "hsnet", "insid3", "pfenet"), 1e-4)
ABSOLUTE |= {ABCDFSS: np.inf}
TIGHT = {"mid_coarse": 1e-4, "mid_gram": 1e-6, "mid_shot": 1e-6}  # of DCAMA's soft masks, HDMNet's scene distances
RELATIVE = {"symnet": 1e-4, "ssp": 1e-4, "dcama": 1e-4, "hdmnet": 1e-4, "sccan": 2e-5, "hsnet": 1e-5, "bam": 1e-4}
RELATIVE |= {"pfenet": 2e-5}
LOSS_RELATIVE = {"symnet": 1e-4}
OTHER_LOSSES, OTHER_GRADIENTS, NO_GRADIENT = 1e-5, 1e-3, 1e-6
GRADIENT_RELATIVE = {"hsnet": 5e-3}  # kernels of SSE4.1 move its ReLUs: 2.7e-3
OTHER_PIXELS = {"symnet": 0.0}  # share of the prediction's pixels that may differ
MOST_OTHER_PIXELS = 1e-3  # where two logits all but agree
STEPS = {"correlation", "voting"}  # single steps of HSNet
STEM = re.compile(r"(?P<backbone>[a-z0-9]+)_(?P<shots>\d+shot)(?P<train>_train)?(?P<rest>_.*)?")
INPUT = "in_"  # of the arrays of INSID3's cases, which begin after the encoder
SHARES = {"best_ref": 5e-3, "mask": 1e-3, "mask_original": 1e-3}  # that may differ: ties, bilinear values of 1/2
# Bounds of ABCDFSS's tensors, by the beginnings of their names: the softmax of unscaled features enlarges rounding.
FIT_BOUNDS = {"loss_": 1e-4, "loss": 1e-5, "grad_norms": 1e-3, "threshold": 1e-4, "pred": 1e-3, "score": 1e-3}
FIT_BOUNDS |= {"mid_level_scores": 1e-3, "mid_query_feat": 1e-5, "mid_sheared_masks": 0.0, "mid_adapted": 5e-3}
WITHOUT_FIT = 1e-5
THINNED, EVERY = ("target_debiased", "ref_debiased"), 8  # channels of INSID3's stored features


def folder_of(model: str) -> Path:
    """Return the folder of a method's cases."""
    return SHARED / "parity" / ("" if model == SYMNET else model)


def cases() -> list[tuple[str, str]]:
    """Return (method, file stem) of all measured cases that are there."""
    return [
        (model, path.stem)
        for model in ABSOLUTE
        for path in sorted(folder_of(model).glob("*.npz"))
        if path.stem not in STEPS and (model == INSID3 or STEM.fullmatch(path.stem))
    ]


@functools.lru_cache(maxsize=2)  # cases come model by model, and all weights together take gigabytes
def weights(model: str, layout: str) -> dict[str, Tensor]:
    """Return the weights of a method's cases under their published names."""
    return state_of(folder_of(model) / f"layout_{layout}.json")


def measured(model: str, stem: str) -> dict[str, np.ndarray]:
    """Return all arrays of a case's file."""
    with np.load(folder_of(model) / f"{stem}.npz") as stored:
        return dict(stored)


def deviations(model: str, stem: str, device: str = "cpu") -> list[str]:
    """Return each tensor of a case that deviates by more than its bound, with the deviation in words."""
    arrays = measured(model, stem)
    if model == INSID3:
        return _insid3(arrays, device)
    if model == ABCDFSS:
        return _abcdfss(arrays, device)
    part = STEM.fullmatch(stem)
    layout = part["backbone"]
    train = bool(part["train"])
    if model in (SYMNET, "hdmnet", "bam"):  # where the number of shots has weights, it is in the name
        layout += f"_pascal_{part['shots']}"
    vectors = read_vectors(SHARED / "embeddings/word2vec_pascal.pkl") if model == SYMNET else None
    state = weights(model, layout)
    ours = forward_case(model, arrays, state, backbone=part["backbone"], train=train, vectors=vectors, device=device)
    names = sorted(set(arrays) - INPUTS)
    assert len(names) > 3
    assert set(names) <= set(ours)
    found = [_deviation(model, name, np.asarray(ours[name], np.float64), arrays[name]) for name in names]
    norms = folder_of(model) / f"{stem}.grad_norms.json"
    assert norms.is_file() == train
    if train:
        found += _gradients(model, ours["grad_norms"], json.loads(norms.read_text()))
    return [deviation for deviation in found if deviation]


def _abcdfss(arrays: dict[str, np.ndarray], device: str) -> list[str]:
    """Return the tensors that deviate in a case of fitted heads."""
    ours = abcdfss_case(arrays, weights(ABCDFSS, "resnet50"), device)
    names = sorted(set(arrays) - INPUTS)
    found = []
    for name in names:
        given, want = ours[name].astype(np.float64), arrays[name].astype(np.float64)
        assert given.shape == want.shape, name
        relative = float(np.linalg.norm(given - want) / np.linalg.norm(want))
        share = float((given != want).mean())
        bound = next(bound for start, bound in FIT_BOUNDS.items() if name.startswith(start))
        if (share if name == "pred" else relative) > (bound if arrays["steps"] else min(bound, WITHOUT_FIT)):
            found.append(f"{name}: {relative:.2g} of its norm, {share:.2g} of values")
    return found


def _deviation(model: str, name: str, given: np.ndarray, stored: np.ndarray) -> str | None:
    """Describe the deviation of a tensor that deviates by more than its bound."""
    want = stored.astype(np.float64)
    assert given.shape == want.shape, name
    difference = np.abs(given - want)
    absolute = float(difference.max(initial=0))
    share = float((difference > 0).mean())
    norm = max(np.linalg.norm(want), np.finfo(np.float64).tiny)
    relative = float(np.linalg.norm(difference) / norm)
    if name.startswith("loss"):
        within = relative <= LOSS_RELATIVE.get(model, OTHER_LOSSES)
    elif name == "pred":
        within = share <= OTHER_PIXELS.get(model, MOST_OTHER_PIXELS)
    else:
        limit = next((bound for start, bound in TIGHT.items() if name.startswith(start)), ABSOLUTE[model])
        within = absolute <= limit and relative <= RELATIVE[model]
    if within:
        return None
    return f"{name}: at most {absolute:.2g} apart, {relative:.2g} of its norm, {share:.2g} of values"


def _gradients(model: str, ours: dict[str, float], expected: dict[str, float]) -> list[str]:
    """Return the gradient norms that deviate; exactly the published parameters learn."""
    if model != SYMNET:
        idle = {name for name, norm in expected.items() if norm == 0} - ours.keys()
        expected = {name: norm for name, norm in expected.items() if name not in idle}
        assert expected.keys() == ours.keys()
    assert expected.keys() <= ours.keys()
    least = 0.0 if model == SYMNET else NO_GRADIENT
    whole = float(np.linalg.norm([*expected.values()]))
    found = []
    for name, norm in expected.items():
        bound = max(GRADIENT_RELATIVE.get(model, OTHER_GRADIENTS) * norm, least)
        if norm < NO_GRADIENT:  # zero but for rounding, which is that of all gradients
            bound = ROUNDING * whole
        apart = abs(ours[name] - norm)
        if apart > bound:
            found.append(f"gradient of {name}: {apart}")
    return found


def _insid3(arrays: dict[str, np.ndarray], device: str) -> list[str]:
    """Return the tensors that deviate in a case that begins after the encoder."""
    inputs = {name.removeprefix(INPUT): array for name, array in arrays.items() if name.startswith(INPUT)}
    stored = {name: array for name, array in arrays.items() if not name.startswith(INPUT)}
    ours = insid3_case(inputs, device)
    assert ours.keys() == stored.keys()
    found = []
    for name, want in stored.items():
        given = ours[name][..., ::EVERY, :, :] if name in THINNED else ours[name]
        assert given.shape == want.shape, name
        difference = np.abs(given.astype(np.float64) - want)
        found.append(_insid3_deviation(name, want, difference))
    return [deviation for deviation in found if deviation]


def _insid3_deviation(name: str, want: np.ndarray, difference: np.ndarray) -> str | None:
    """Describe the deviation of a tensor that deviates by more than its bound."""
    if not want.size:
        return None
    absolute = float(difference.max())
    share = float((difference > 0).mean())
    if name in SHARES:
        is_within = share <= SHARES[name]
    elif want.dtype.kind == "f":
        unit = want.max() if name == "singular_values" else 1.0
        is_within = absolute <= ABSOLUTE[INSID3] * unit
    else:
        is_within = absolute == 0
    return None if is_within else f"{name}: at most {absolute:.2g} apart, {share:.2g} of values"
