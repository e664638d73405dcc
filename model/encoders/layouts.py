"""Weights of an encoder in every layout that circulates: renamed to ours, recognised, loaded."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from model.encoders.encoder import Encoder
from model.encoders.registry import build, encoders, in_words, spec_of
from model.mismatch import ModelMismatch
from model.published import COUNTER

OWN = "encoder."  # prefix of the encoder's tensors in a whole method's state dict


@dataclass
class Fit:
    """How a state dict fills an encoder, by our names."""

    given: dict[str, Tensor]  # the encoder's tensors that it holds
    foreign: list[str]  # its other tensors that belong to another encoder of the family
    missing: list[str]  # tensors of the encoder that it lacks
    inside: list[str]  # those of stages of which it holds some


def fit(encoder: Encoder, state: dict[str, Tensor]) -> Fit:
    """Return how a state dict of any known layout fills an encoder."""
    names = encoder.state_dict().keys()
    renamed = encoder.own_names({_unprefixed(name, names): x for name, x in state.items()})
    given = {name: x for name, x in renamed.items() if name in names}
    needed = [name for name in names if name not in encoder.constants and not name.endswith(COUNTER)]
    missing = [name for name in needed if name not in given]
    begun_stages = {encoder.stage_of(name) for name in given if name not in encoder.constants}
    return Fit(
        given=given,
        foreign=encoder.foreign(name for name in renamed if name not in names),
        missing=missing,
        inside=[name for name in missing if encoder.stage_of(name) in begun_stages],
    )


def _unprefixed(name: str, names: Collection[str]) -> str:
    """Return a tensor's name without the prefixes that files put before it, down to one that the encoder has."""
    for prefix in ("module.", OWN, "backbone."):
        if name in names:
            break
        name = name.removeprefix(prefix)
    return name


def recognise(state: dict[str, Tensor]) -> tuple[str, str, Fit] | None:
    """Return backbone, stem and fit of the encoder that a state dict fits; None if it fits none, or one of timm."""
    fits = []
    for backbone in encoders():
        for stem in spec_of(backbone).stems:
            encoder = _bare(backbone, stem)
            matched = fit(encoder, encoder_part(state))
            if matched.given and not _wrong(encoder, matched):
                fits.append((backbone, stem, matched))
    return min(fits, key=lambda entry: len(entry[2].missing), default=None)


def _wrong(encoder: Encoder, matched: Fit) -> list[str]:
    """Return the tensors by which a file is of another encoder: too many, of another shape, or too few in a stage."""
    expected = encoder.state_dict()
    other_shapes = [name for name, x in matched.given.items() if x.shape != expected[name].shape]
    return [*matched.foreign, *other_shapes, *matched.inside]


@cache
def _bare(backbone: str, stem: str) -> Encoder:
    """Return an encoder without values, to compare names and shapes with."""
    with torch.device("meta"):
        return build(backbone, stem)


def _whose(state: dict[str, Tensor]) -> str:
    """Return whose weights a state dict holds in words, with the settings that take it."""
    matched = recognise(state)
    if matched is None:
        return f"{len(state)} tensors of no encoder known here, such as {next(iter(state), 'none')}"
    backbone, stem, found = matched
    settings = {"backbone": backbone, "stem": stem}
    if found.missing:
        settings["partial"] = "true"
    remedy = " ".join(f"--set model.encoder.{key}={value}" for key, value in settings.items())
    return f"{in_words(spec_of(backbone), stem)}; to take it: {remedy}"


def encoder_part(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the encoder if a state dict is of a whole method of ours, otherwise all of them."""
    return {k: v for k, v in state.items() if k.startswith(OWN)} or state


def load_encoder(encoder: Encoder, state: dict[str, Tensor], partial: bool) -> list[str]:
    """Fill ``encoder`` from a file's tensors (float16 or float32), of itself or of a whole method of ours.

    Returns:
        The names of its tensors that were not filled.

    Raises:
        ModelMismatch: another stem or depth, wrong shapes, values that are no finite floats, a stage in part, or -
            unless ``partial`` - stages that the file does not hold.
    """
    state = encoder_part(state)
    matched = fit(encoder, state)
    wrong = _wrong(encoder, matched)
    if wrong or not matched.given:
        which = f" (its tensor {wrong[0]} is missing or differs)" if wrong else ""
        what = f"these are not weights of this encoder, {encoder.title}{which}"
        raise ModelMismatch(f"{what}: it holds {_whose(state)}")
    expected = encoder.state_dict()
    for name, tensor in matched.given.items():
        if tensor.is_floating_point() != expected[name].is_floating_point() or not tensor.isfinite().all():
            raise ModelMismatch(f"tensor {name} does not hold finite numbers of the right kind ({tensor.dtype})")
    if matched.missing and not partial:
        remedy = "bring a complete file or set model.encoder.partial: true to start them from random values"
        raise ModelMismatch(f"{len(matched.missing)} tensors are missing, from {matched.missing[0]} on; {remedy}")
    own = {name: tensor.to(expected[name]) for name, tensor in matched.given.items()}
    encoder.load_state_dict({**encoder.state_dict(), **own})
    return matched.missing
