"""Weights of an encoder in every layout that circulates: renamed to ours, recognised, loaded."""

import re
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from model.encoders.encoder import Encoder
from model.encoders.registry import ENCODERS, build, in_words, spec_of
from model.encoders.timm_encoder import CONSTANTS
from model.encoders.timm_facts import PREFIX as TIMM
from model.mismatch import ModelMismatch

COUNTER = "num_batches_tracked"
OWN = "encoder."  # prefix of the encoder's tensors in a whole model's state dict


@dataclass
class Fit:
    """A state dict beside the encoder that it shall fill, by our names."""

    given: dict[str, Tensor]  # the encoder's tensors that it holds
    others: list[str]  # its other tensors
    foreign: list[str]  # those of ``others`` that belong to another encoder of the family
    missing: list[str]  # tensors of the encoder that it lacks
    absent_stages: list[int]  # stages without any tensor
    inside: list[str]  # missing tensors of the other stages; a file may stop after a stage, not inside one


def fit(encoder: Encoder, state: dict[str, Tensor]) -> Fit:
    """Return how a state dict of any known layout fills an encoder."""
    renamed = encoder.own_names({re.sub(r"^(module\.)?(encoder\.)?(backbone\.)?", "", k): x for k, x in state.items()})
    own = encoder.state_dict()
    given, others = {k: v for k, v in renamed.items() if k in own}, [k for k in renamed if k not in own]
    begun = {encoder.stage_of(k) for k in given if k not in CONSTANTS}
    needed = [k for k in own if k not in CONSTANTS and not k.endswith(COUNTER)]
    missing = [k for k in needed if k not in given]
    absent = sorted({encoder.stage_of(k) for k in needed} - begun)
    inside = [k for k in missing if encoder.stage_of(k) in begun]
    return Fit(given, others, encoder.foreign(others), missing, absent, inside)


def recognise(state: dict[str, Tensor], named: str | None = None) -> tuple[str, str, Fit] | None:
    """Return backbone, stem and fit of the encoder that a state dict fits, or timm's ``named`` fits; None if none."""
    fits = []
    for backbone in (*ENCODERS, *([] if named is None else [named])):
        for stem in spec_of(backbone).stems:
            encoder = _bare(backbone, stem)
            found, own = fit(encoder, encoder_part(state)), encoder.state_dict()
            if found.given and not found.foreign and all(own[k].shape == x.shape for k, x in found.given.items()):
                fits.append((backbone, stem, found))
    return min(fits, key=lambda one: len(one[2].missing), default=None)


@cache
def _bare(backbone: str, stem: str) -> Encoder:
    """Return an encoder without values, to compare names and shapes with."""
    with torch.device("meta"):
        return build(backbone, stem)


def describe(state: dict[str, Tensor], named: str = "") -> str:
    """Return the encoder of a state dict in words, for messages; ``named`` is the backbone that is looked for."""
    found = recognise(state, named if named.startswith(TIMM) else None)
    unknown = f"{len(state)} tensors of no encoder known here, such as {next(iter(state), 'none')}"
    return unknown if found is None else in_words(*found[:2])


def encoder_part(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the encoder if a state dict is of a whole model of ours, otherwise all of them."""
    return {k: v for k, v in state.items() if k.startswith(OWN)} or state


def load_encoder(encoder: Encoder, state: dict[str, Tensor], partial: bool) -> list[str]:
    """Fill ``encoder`` from ``state`` (float16 or float32); return the names of tensors that were not filled.

    Raises:
        ModelMismatch: another stem or depth, wrong shapes, values that are no finite floats, or - unless ``partial`` -
            tensors of the encoder that the file does not hold.
    """
    found, own = fit(encoder, state), encoder.state_dict()
    wrong = [*found.foreign, *(k for k, x in found.given.items() if x.shape != own[k].shape), *found.inside]
    if wrong or not found.given:
        which = f" (its tensor {wrong[0]} is missing or differs)" if wrong else ""
        raise ModelMismatch(
            f"these are not weights of this encoder, {encoder.title}: it holds {describe(state)}{which}"
        )
    for name, tensor in found.given.items():
        if tensor.is_floating_point() != own[name].is_floating_point() or not torch.isfinite(tensor).all():
            raise ModelMismatch(f"tensor {name} does not hold finite numbers of the right kind ({tensor.dtype})")
    if found.missing and not partial:
        remedy = "bring a complete file or set model.encoder.partial: true to start them from random values"
        raise ModelMismatch(f"{len(found.missing)} tensors are missing, from {found.missing[0]} on; {remedy}")
    encoder.load_state_dict({k: v.to(own[k].dtype) for k, v in found.given.items()}, strict=False)
    return found.missing
