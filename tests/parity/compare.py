"""Values of our network beside the stored ones of the published network: those that differ by more than their bound."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tests.helpers.close import OTHER_PIXELS, ROUNDING

Arrays = dict[str, np.ndarray]
Bounds = Mapping[str, float]  # by the beginnings of names
VALUE, HALF, LOSS, GRADIENT = 1e-4, 1e-3, 1e-5, 1e-3  # of norms; HALF of what is stored in float16
NO_GRADIENT = 1e-6  # zero but for rounding, which is that of all gradients


def deviations(given: Mapping[str, Any], stored: Arrays, bounds: Bounds | None = None) -> list[str]:
    """Return each stored value that deviates, in words.

    Numbers deviate by a share of their norm, integers and bits by the share of them that are others.
    """
    found = []
    for name, want in stored.items():
        apart = _apart(_thinned(np.asarray(given[name]), want.shape), want)
        if not apart <= _bound(name, want, bounds or {}):
            kind = "of its norm" if want.dtype.kind == "f" else "of values"
            found.append(f"{name}: {apart:.2g} {kind}")
    return found


def gradient_deviations(
    given: Mapping[str, float], stored: Mapping[str, float | None], bound: float = GRADIENT
) -> Iterator[str]:
    """Yield the norms of gradients that deviate; exactly the published parameters learn (null, or 0: do not)."""
    learnable = {name: norm for name, norm in stored.items() if norm or name in given}
    assert learnable.keys() == given.keys()
    whole = np.linalg.norm([*learnable.values()])
    for name, norm in learnable.items():
        allowed = bound * norm if norm >= NO_GRADIENT else ROUNDING * whole
        if not abs(given[name] - norm) <= allowed:
            yield f"gradient of {name}: {given[name]} in place of {norm}"


def _bound(name: str, want: np.ndarray, bounds: Bounds) -> float:
    """Return the largest deviation of a value that is allowed."""
    of_name = [bound for start, bound in bounds.items() if name.startswith(start)]
    if of_name:
        return of_name[0]
    if name == "pred":
        return OTHER_PIXELS
    if want.dtype.kind != "f":
        return 0
    if name.startswith("loss"):
        return LOSS
    return HALF if want.dtype == np.float16 else VALUE


def _apart(given: np.ndarray, want: np.ndarray) -> float:
    """Return how far two arrays of one shape are apart, as a share."""
    assert given.shape == want.shape, (given.shape, want.shape)
    if not want.size:
        return 0
    if want.dtype.kind != "f":
        return float((given != want).mean())
    return float(np.linalg.norm(given.astype(np.float64) - want) / (np.linalg.norm(want.astype(np.float64)) or 1))


def _thinned(whole: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return every s-th value along each dimension, so that there are as many as of a stored array."""
    if whole.ndim != len(shape) or not all(shape):
        return whole.reshape(shape)
    steps = (-(-full // kept) for full, kept in zip(whole.shape, shape))
    return whole[tuple(slice(None, None, step) for step in steps)]
