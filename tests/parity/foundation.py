"""Measured cases of FSS-SAM3 and GF-SAM: the methods' own steps around tiny networks of ``transformers``."""

import functools
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from model.contract import Task
from model.gfsam.gfsam import GFSAM, GFSAMSettings
from model.sam3 import sam3 as canvas
from model.sam3.sam3 import SAM3, SAM3Settings
from tests.paths import SHARED, parity_weights

Arrays = dict[str, np.ndarray]
TASK = Task(base_classes=1, shots=1, size=64, text_width=0)


def require_transformers() -> Any:
    return pytest.importorskip("transformers", reason="transformers is not installed: requirements-foundation.txt")


@functools.cache
def config_of(name: str) -> dict[str, Any]:
    return json.loads((SHARED / "parity" / name).read_text())


@torch.no_grad()
def filled(network: nn.Module) -> nn.Module:
    fill = parity_weights().fill
    for name, parameter in network.eval().named_parameters():
        parameter.copy_(fill(name, tuple(parameter.shape)))
    return network


@functools.cache
def _sam3(side: int) -> nn.Module:
    library = require_transformers()
    return filled(library.Sam3Model(library.Sam3Config(**config_of(f"sam3/config_{side}.json"))))


@torch.no_grad()
def sam3_case(inputs: Arrays) -> Arrays:
    side, shots = int(inputs["canvas"]), sum(key.startswith("support_") for key in inputs)
    settings = SAM3Settings(threshold=float(inputs["threshold"]))
    model = SAM3(settings, TASK, _sam3(side), None).eval()
    assert model.side == side
    photos = [inputs[f"support_{k}"] for k in range(shots)]
    boxes = inputs.get("boxes")
    if boxes is None:
        boxes = np.stack([canvas.box_of(inputs[f"mask_{k}"]) for k in range(shots)])
    places = canvas.rectangles(shots, side, str(inputs["layout"]), float(inputs["ratio"]), bool(inputs["swap"]))
    pasted = canvas.paste([*photos, inputs["query"]], places, side)
    norm_boxes = canvas.on_canvas(boxes, photos, places[:-1], side)
    prompt = torch.from_numpy(np.stack([inputs["input_ids"], inputs["attention_mask"]]))[:, None]
    found = model.search(pasted, norm_boxes, prompt, places[-1])
    best = found.best.numpy()
    return {
        "boxes": boxes,
        "canvas": pasted,
        "norm_boxes": norm_boxes,
        "scores": found.scores.numpy(),
        "presence": found.presence.numpy().reshape(1),
        "kept": found.kept.numpy(),
        "pred_masks": found.logits.numpy(),
        "union": best > 0,
        "mask": canvas.cut_out(best, places[-1], inputs["query"].shape[:2]) > 0,
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
    query = images["query"]
    answer = model.answer(model.cache_query(query[None]), 0, query, supports)
    out = {name: x.view(model.grid, model.grid) for name, x in answer.maps._asdict().items()}
    out |= {"points": answer.points, "prompts": answer.prompts, "areas": answer.areas, "mask": answer.mask}
    out |= {name: getattr(answer.verdict, name) for name in ("components", "foreground", "state")}
    return {name: x if isinstance(x, np.ndarray) else x.numpy() for name, x in out.items()}
