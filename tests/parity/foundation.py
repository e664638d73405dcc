"""Measured cases of FSS-SAM3 and GF-SAM: the methods' own steps around tiny networks of ``transformers``."""

import functools
import json
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
from tests.helpers.paths import SHARED, parity_weights
from tests.parity.watched import on_calls

Arrays = dict[str, np.ndarray]
TASK = Task(base_classes=1, shots=1, size=64, text_width=0)


def require_transformers() -> Any:
    return pytest.importorskip("transformers", reason="transformers is not installed: requirements-foundation.txt")


@functools.cache
def config_of(name: str) -> dict[str, Any]:
    return json.loads((SHARED / "parity" / name).read_text())


# Parts of names of DINOv2's tensors in releases of transformers before those of the measured cases, and in these.
RENAMED = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
}


def measured_name(name: str) -> str:
    """Return the name that a tensor had when the cases were measured, whatever the release of transformers is."""
    for earlier, measured in RENAMED.items():
        name = name.replace(earlier, measured)
    return name


@torch.no_grad()
def filled(network: nn.Module) -> nn.Module:
    fill = parity_weights().fill
    for name, parameter in network.eval().named_parameters():
        parameter.copy_(fill(measured_name(name), tuple(parameter.shape)))
    return network


@functools.cache
def _sam3(side: int) -> nn.Module:
    library = require_transformers()
    return filled(library.Sam3Model(library.Sam3Config(**config_of(f"sam3/config_{side}.json"))))


@torch.no_grad()
def sam3_case(inputs: Arrays) -> Arrays:
    side, shots = int(inputs["canvas"]), sum(key.startswith("support_") for key in inputs)
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
    each, seen, out = iter(boxes), dict[str, Any](), []
    prompt = torch.from_numpy(np.stack([inputs["input_ids"], inputs["attention_mask"]]))[:, None]
    model._prompt = lambda *_: prompt
    search = model.search
    model.search = lambda *given: out.extend([given, search(*given)]) or out[1]
    hook = model.networks[0].register_forward_hook(lambda module, inputs, output: seen.update(output))
    images = {key: torch.from_numpy(x).permute(2, 0, 1)[None] for key, x in inputs.items() if x.ndim == 3}
    one, supports = torch.ones(1).long(), [images[f"support_{k}"] for k in range(shots)]
    labels = [torch.ones(1, *image.shape[2:]) for image in supports]
    episode = EpisodeOfOriginalSizes(images["query"], one, supports, labels, one, one, one)
    with mock.patch.object(canvas, "box_of", lambda _: next(each)):
        best, _ = model._segment(episode, 0)
    hook.remove()
    (pasted, norm_boxes, *_), (found, (presence, _)) = out
    return {
        "boxes": boxes,
        "canvas": pasted,
        "norm_boxes": norm_boxes,
        "scores": (seen["pred_logits"][0].sigmoid() * presence).numpy(),
        "presence": presence.numpy().reshape(1),
        "pred_masks": seen["pred_masks"][0].numpy(),
        "union": found.numpy() > 0,
        "mask": best.numpy() > 0,
    }


@functools.cache
def _sam_and_dino(side: int) -> list[nn.Module]:
    library, config = require_transformers(), config_of("gfsam/config.json")
    sam = {**config["sam"]}
    for part in ("vision_config", "prompt_encoder_config"):
        sam[part] = {**sam[part], "image_size": side}
    dino = library.Dinov2Model(library.Dinov2Config(**config["dinov2"]))
    return [filled(library.SamModel(library.SamConfig(**sam))), filled(dino)]


@torch.no_grad()
def gfsam_case(inputs: Arrays) -> Arrays:
    shots = sum(key.startswith("support_") for key in inputs)
    model = GFSAM(GFSAMSettings(), TASK, *_sam_and_dino(int(inputs["side"]))).eval()
    images = {key: torch.from_numpy(x).permute(2, 0, 1) for key, x in inputs.items() if x.ndim == 3}
    labels = [torch.from_numpy(inputs[f"mask_{k}"]) for k in range(shots)]
    supports = [(model.see(images[f"support_{k}"]), *model._weights(label)) for k, label in enumerate(labels)]
    query, seen = images["query"], []
    on_calls(gfsam, "judge", lambda inputs, verdict: seen.append((*inputs[:2], verdict)))
    maps, mask = model.answer(model.cache_query(query[None]), 0, query, supports)
    mock.patch.stopall()
    [(masks, points, verdict)] = seen
    out = {name: x.view(model.grid, model.grid) for name, x in maps._asdict().items()}
    out |= {"points": points, "areas": masks.sum((1, 2)), "mask": mask}
    out |= {name: getattr(verdict, name) for name in ("components", "foreground", "state")}
    return {name: x if isinstance(x, np.ndarray) else x.numpy() for name, x in out.items()}
