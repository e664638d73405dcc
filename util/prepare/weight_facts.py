"""What a file of weights holds: an encoder's, a checkpoint of this project, or an authors' checkpoint."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model.encoders.layouts import describe, encoder_part, recognise
from model.encoders.registry import spec_of
from model.encoders.timm_facts import PREFIX, unknown
from model.registry import published_layout
from util.checkpoints import checkpoint
from util.errors import UserError

IMAGENET, OURS = "encoder weights", "a checkpoint of this project"
PUBLISHED, OTHER = "an authors' checkpoint", "a checkpoint of another network around such an encoder"


@dataclass
class WeightFacts:
    """Description of a weights file."""

    path: Path
    kind: str  # IMAGENET, OURS, PUBLISHED or OTHER
    stage: str | None  # of OURS: "base" or "meta"
    origin: str | None  # of OURS: stage, config, data set and fold; of PUBLISHED: method and network; in words
    backbone: str
    stem: str  # "plain" or "deep"; VGG and Swin have only "plain"
    tensors: int  # number of all tensors in the file
    numbers: dict[str, int]  # number of the encoder's tensors by dtype, such as {"float32": 320}
    missing: list[str]  # missing tensors of the encoder, under our names
    absent_stages: list[int]  # stages without any tensor; accepted with partial: true
    inside: list[str]  # missing tensors of the other stages; no run accepts such a file

    @property
    def complete(self) -> bool:
        """Whether no tensor of the encoder is missing."""
        return not self.missing

    def line(self) -> str:
        """Return the facts in one line, without the path."""
        completeness = "complete"
        if self.inside:
            completeness = f"{len(self.missing)} tensors missing, such as {self.inside[0]} inside a stage: not usable"
        elif self.missing:
            stages = " and ".join(map(str, self.absent_stages))
            completeness = (
                f"all {len(self.missing)} tensors of stage {stages} missing: needs model.encoder.partial: true"
            )
        stem = "" if len(spec_of(self.backbone).stems) == 1 else f", {self.stem} stem"
        numbers = " and ".join(sorted(self.numbers))
        return f"{self.backbone}{stem}, {completeness}, {numbers}, all finite; {self.origin or self.kind}"


def describe_weights_file(path: str | Path) -> WeightFacts:
    """Return the description of a weights file: ImageNet weights, a checkpoint of ours or of the authors.

    Raises:
        UserError: the file is missing, damaged or unsafe, has values that are not finite, or holds no supported
            encoder.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: this weights file does not exist; put it there, or name another")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about pickles before it refuses them
        content = checkpoint.read(path)
    state = checkpoint.weights_of(content)
    tensors = len(state)
    for name, tensor in state.items():
        plain = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_nested
        if not plain or (tensor.is_floating_point() and not torch.isfinite(tensor).all()):
            raise UserError(
                f"{path}: tensor {name} is of no plain kind or has values that are not finite; restore the file"
            )
    layout = published_layout(state)
    state = state if layout is None else layout.translate(state) or state
    found = recognise(state, _timm_network(content))
    if found is None:
        raise UserError(
            f"{path}: holds {describe(state)}, which has the layout of no encoder of this project "
            "(ResNets with a plain or deep stem, VGG-16 with batch norm, Swin-B); if it is of a network of timm, "
            f"name it: prepare.py weights timm/<name> --check {path}"
        )
    kind, stage, origin = IMAGENET, None, None
    if checkpoint.is_own(content):
        kind, stage, origin = OURS, content.get("stage"), _origin(content)
    elif layout is not None:
        kind, origin = PUBLISHED, f"the authors' {layout.title} checkpoint"
    elif found.fit.others:
        kind = OTHER
    numbers = Counter(
        str(t.dtype).removeprefix("torch.") for t in encoder_part(state).values() if t.is_floating_point()
    )
    return WeightFacts(
        path,
        kind,
        stage,
        origin,
        found.backbone,
        found.stem,
        tensors,
        dict(numbers),
        found.fit.missing,
        found.fit.absent_stages,
        found.fit.inside,
    )


def _timm_network(content: dict[str, Any]) -> str | None:
    """Return the network of timm that a checkpoint of this project names as its encoder; None: none that exists."""
    encoder = content["config"].get("model", {}).get("encoder", {}) if checkpoint.is_own(content) else {}
    backbone = encoder.get("backbone") if isinstance(encoder, dict) else None
    is_timm = isinstance(backbone, str) and backbone.startswith(PREFIX)
    return backbone if is_timm and unknown(backbone) is None else None


def _origin(content: dict[str, Any]) -> str:
    """Return the run of a checkpoint of ours in words."""
    config = content.get("config") or {}
    data, model, name = (config.get(s) or {} for s in ("data", "model", "run"))
    return (
        f"{OURS}: {content.get('stage')} stage of {name.get('name')} "
        f"({model.get('name')}, {data.get('name')} fold {data.get('fold')}, {data.get('shot')}-shot)"
    )
