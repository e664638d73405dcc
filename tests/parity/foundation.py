"""Measured cases of FSS-SAM3 and GF-SAM: the methods' own steps around tiny networks of ``transformers``."""

import functools
from collections.abc import Mapping
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

from model.contract import Task
from model.episode import EpisodeOfOriginalSizes
from model.gfsam import gfsam
from model.gfsam.gfsam import GFSAM, GFSAMSettings
from model.sam3 import sam3 as canvas
from model.sam3.sam3 import MOST, SAM3, SAM3Settings
from tests.helpers.paths import SHARED
from tests.helpers.read import json_of
from tests.parity.compare import Arrays, deviations
from tests.parity.drawn.weights import fill
from tests.parity.watched import on_calls

# Shares of bits that are others, or of bytes of eight bits; thresholds turn what all but reaches them.
BOUNDS = {"pred_masks": 5e-3, "union": 0.01, "mask": 0.02, "foreground": 0.02, "state": 0.02}
TASK = Task(base_classes=1, shots=1, size=64, text_width=0)


def foundation_cases() -> list[tuple[str, str]]:
    """Return (method, file stem) of all measured cases that are there."""
    paths = [path for name in ("gfsam", "sam3") for path in sorted((SHARED / "parity" / name).glob("*.npz"))]
    return [(path.parent.name, path.stem) for path in paths]


def deviations_of_foundation(name: str, stem: str) -> list[str]:
    """Return each value of a case that differs by more than its bound, in words."""
    with np.load(SHARED / "parity" / name / f"{stem}.npz") as file:
        arrays = dict(file)
    inputs = {key.removeprefix("in_"): array for key, array in arrays.items() if key.startswith("in_")}
    given = {"sam3": sam3_case, "gfsam": gfsam_case}[name](inputs)
    return deviations(given, {key: arrays[key] for key in arrays if key in given}, BOUNDS)


def require_transformers() -> Any:
    return pytest.importorskip("transformers", reason="transformers is not installed")


@functools.cache
def config_of(name: str) -> dict[str, Any]:
    return json_of(SHARED / "parity" / name)


# Parts of names of DINOv2's tensors in releases of transformers before those of the measured cases, and in these.
RENAMED = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
}


@torch.no_grad()
def filled(network: nn.Module) -> nn.Module:
    """Fill a network by the names that its tensors had when the cases were measured."""
    for name, parameter in network.eval().named_parameters():
        for earlier, measured in RENAMED.items():
            name = name.replace(earlier, measured)
        parameter.copy_(fill(name, tuple(parameter.shape)))
    return network


@functools.cache
def _sam3(side: int) -> nn.Module:
    library = require_transformers()
    return filled(library.Sam3Model(library.Sam3Config(**config_of(f"sam3/config_{side}.json"))))


@torch.no_grad()
def sam3_case(inputs: Arrays) -> Mapping[str, Any]:
    side = int(inputs["canvas"])
    shots = sum(key.startswith("support_") for key in inputs)
    settings = SAM3Settings(threshold=float(inputs["threshold"]))
    for name in ("layout", "ratio", "swap"):
        setattr(settings, name, inputs[name].item())
    settings.ratio_of_several = settings.ratio
    if shots == MOST:
        settings.five = settings.layout
    model = SAM3(settings, TASK, _sam3(side), None).eval()
    assert model.side == side
    boxes = inputs.get("boxes")
    if boxes is None:
        boxes = np.stack([canvas.box_of(inputs[f"mask_{k}"]) for k in range(shots)])
    prompt = torch.tensor([[inputs["input_ids"]], [inputs["attention_mask"]]])
    model._prompt = lambda *_: prompt
    network_output = {}
    searches = []
    drawn = []
    search = model.search
    hook = model.networks[0].register_forward_hook(lambda module, inputs, output: network_output.update(output))

    def noted(*given: Any) -> Any:
        searches.append((given, search(*given)))
        return searches[-1][1]

    model.search = noted
    on_calls(canvas, "draw_instances", lambda given, result: drawn.append(given))
    given_boxes = iter(boxes)
    with mock.patch.object(canvas, "box_of", lambda _: next(given_boxes)):
        (best,) = model(_episode_of_original_sizes(inputs, shots)).pictures["score"]
    mock.patch.stopall()
    hook.remove()
    [((pasted, norm_boxes, *_), (union, (presence, _)))] = searches
    [(_, kept_scores, *_)] = drawn
    scores = network_output["pred_logits"][0].sigmoid() * presence
    return {
        "boxes": boxes,
        "canvas": pasted,
        "norm_boxes": norm_boxes,
        "scores": scores,
        "presence": presence.reshape(1),
        "kept": torch.isin(scores, kept_scores),
        "pred_masks": network_output["pred_masks"][0],
        "union": np.packbits(union > 0),
        "mask": np.packbits(best > 0),
    }


def _episode_of_original_sizes(inputs: Arrays, shots: int) -> EpisodeOfOriginalSizes:
    """Return the case's episode; its boxes are given, so that every pixel of a support may be marked."""
    images = {key: torch.from_numpy(x).permute(2, 0, 1)[None] for key, x in inputs.items() if x.ndim == 3}
    supports = [images[f"support_{k}"] for k in range(shots)]
    labels = [torch.ones(1, *image.shape[2:]) for image in supports]
    one = torch.ones(1).long()
    return EpisodeOfOriginalSizes(images["query"], one, supports, labels, class_id=one, base_id=one, number=one)


@functools.cache
def _sam_and_dino(side: int) -> list[nn.Module]:
    library = require_transformers()
    config = config_of("gfsam/config.json")
    sam = {**config["sam"]}
    for part in ("vision_config", "prompt_encoder_config"):
        sam[part] = {**sam[part], "image_size": side}
    dino = library.Dinov2Model(library.Dinov2Config(**config["dinov2"]))
    return [filled(library.SamModel(library.SamConfig(**sam))), filled(dino)]


@torch.no_grad()
def gfsam_case(inputs: Arrays) -> Mapping[str, Any]:
    shots = sum(key.startswith("support_") for key in inputs)
    model = GFSAM(GFSAMSettings(), TASK, *_sam_and_dino(int(inputs["side"]))).eval()
    images = {key: torch.from_numpy(x).permute(2, 0, 1) for key, x in inputs.items() if x.ndim == 3}
    masks = [torch.from_numpy(inputs[f"mask_{k}"]) for k in range(shots)]
    supports = [model.support(images[f"support_{k}"], mask) for k, mask in enumerate(masks)]
    judged = []
    prompts = []  # SAM's points, (1, P, 1, 2) of each call
    on_calls(gfsam, "judge", lambda inputs, verdict: judged.append((*inputs[:2], verdict)))
    hook = model.networks[0].register_forward_pre_hook(
        lambda module, inputs, named: prompts.append(named["input_points"]), with_kwargs=True
    )
    maps, mask = model.answer(model.see(images["query"]), supports)
    hook.remove()
    mock.patch.stopall()
    [(_, points, verdict)] = judged
    out = {name: x.view(model.grid, model.grid) for name, x in maps._asdict().items()}
    out |= {name: getattr(verdict, name) for name in ("components", "foreground", "state")}
    out |= {"points": points, "mask": np.packbits(mask.bool())}
    out["prompts"] = torch.cat(prompts, dim=1)[0, :, 0]
    return out
