"""The classes of a segmenter, whose supports are encoded once.

Weights that serve any number of shots, or exactly the given number, see all supports together. Weights that were
trained for one shot see each support alone, and the logits are averaged. Other numbers of supports are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from photos.examples import UNNAMED, LoadedExample
from util.engine import ClassText, Engine, SupportBatch
from util.files.errors import UserError

TINY, MOST = 0.01, 0.6  # shares of an example that the object covers, beyond which it teaches little


@dataclass
class EncodedClass:
    """A class to segment."""

    name: str
    text: ClassText  # what the method reads of the name
    support_batches: list[SupportBatch]
    sources: list[str]  # the files of the supports
    shares: tuple[float, ...]  # of each support's photo that the object covers


def encode_class(name: str | None, supports: Sequence[LoadedExample], engine: Engine) -> EncodedClass:
    """Return a class of supports, sized as the evaluation does.

    UserError: no supports, as ``shots_per_batch``, or no pixel of the object at the input size.
    """
    shown_name = name or UNNAMED
    if not supports:
        raise UserError(f"{shown_name}: no example; give at least one annotated photo")
    sized = [engine.sized(support.image, support.label) for support in supports]
    for support, (_, label) in zip(supports, sized, strict=True):
        _check_object(support, label, engine.view.side)
    images = torch.stack([image for image, _ in sized])[None].to(engine.device)  # (1, K, 3, S, S)
    labels = torch.stack([label for _, label in sized])[None].to(engine.device)  # (1, K, S, S)
    together = shots_per_batch(shown_name, len(supports), engine)
    batches = zip(images.split(together, 1), labels.split(together, 1), strict=True)
    return EncodedClass(
        name=shown_name,
        text=engine.read_name(name),
        support_batches=[SupportBatch(image, label, engine.shots(image[0], label[0])) for image, label in batches],
        sources=[support.source for support in supports],
        shares=tuple(float((support.label != 0).mean()) for support in supports),  # with what is unknown
    )


def _check_object(support: LoadedExample, label: Tensor, side: int) -> None:
    """Refuse (UserError) a support without a pixel of the object, also in its label at the network's input size."""
    if 1 not in support.label:
        raise UserError(
            f"{support.source}: the annotation has no pixel of the object; give a mask, outlines or box=x0,y0,x1,y1"
        )
    if 1 not in label:
        raise UserError(
            f"{support.source}: its object vanishes at {side} x {side} pixels, the network's input",
            fix="crop the photo closer to it, or take a larger side (--resize)",
        )


def shots_per_batch(name: str, supports: int, engine: Engine) -> int:
    """Return how many supports of a class the network sees together: all, or one; UserError: another fixed number."""
    trained_shots = engine.trained_shots
    if trained_shots in (None, 1, supports):
        return 1 if trained_shots == 1 else supports
    raise UserError(
        f"{name}: has {supports} example(s), but {engine.source} was trained with {trained_shots} shots "
        "and its weights accept no other number",
        fix=f"give {trained_shots} examples, or a checkpoint trained with one shot, which accepts any number",
    )
