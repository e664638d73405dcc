"""Measured cases of SANSA on drawn images: our network with weights made from the published names."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.contract import Task
from model.episode import Episode, Supports
from model.sansa.sansa import SANSA, SANSASettings
from model.tensors.cells import resize_cells
from tests.helpers.read import json_of
from tests.parity.case import GRADIENTS
from tests.parity.compare import Arrays, deviations, gradient_deviations
from tests.parity.drawn.cases import check_sum, joined
from tests.parity.drawn.weights import fill
from tests.parity.foundation import require_transformers

FOLDER = Path(__file__).parent / "drawn/sansa"
TASK = Task(base_classes=1, shots=1, size=97, text_width=0)
INPUTS = {"network", "seed", "shots", "side", "crop", "inputs_crc32", "all_frames"}
CODE = "prompt_encoder.shared_embedding.positional_embedding"
OURS = {"loss_mask": "focal", "loss_dice": "dice"}
BOUNDS = {"ious": 2e-6, "pointers": 3e-6, "grad_total": 1e-3}


@functools.cache
def _network(name: str) -> SANSA:
    """Return the network of some cases, without dropout, in evaluation."""
    library = require_transformers()
    config = json_of(FOLDER / f"config_{name}.json")
    sam = library.Sam2VideoModel(library.Sam2VideoConfig(**config["library"])).eval()
    with torch.no_grad():
        for key, parameter in sam.named_parameters():
            scale = next((value for part, value in config["scales"].items() if part in key), 1.0)
            parameter.copy_(fill(key, tuple(parameter.shape)) * scale)
        code = sam.prompt_encoder.shared_embedding.positional_embedding
        for buffer in (code, sam.shared_image_embedding.positional_embedding):
            buffer.copy_(fill(CODE, tuple(code.shape)))
    model = SANSA(SANSASettings(factor=config["factor"], stages=config["stages"], dropout=False), TASK, sam)
    given = {SANSA.published.name(key): fill(key, shape) for key, shape in config["adapters"].items()}
    model.adapters.load_state_dict({key.removeprefix("adapters."): tensor for key, tensor in given.items()})
    return model.eval()


def drawn_episodes(inputs: Arrays) -> Episode:
    """Return a case's episodes, one for each seed."""
    height, width = inputs["crop"]
    drawn = joined(np.atleast_1d(inputs["seed"]), int(inputs["shots"]), int(inputs["side"]))
    class_id = torch.from_numpy(drawn.pop("class_id"))
    cut = {name: torch.from_numpy(x)[..., :height, :width] for name, x in drawn.items()}
    masks = (torch.cat([cut["support_label"], cut["query_label"][:, None]], 1) == 1).byte()
    assert check_sum(masks.numpy()) == inputs["inputs_crc32"], "other images are drawn"
    return Episode(**cut, class_id=class_id, base_id=class_id, number=torch.arange(len(class_id)))


def _forward(network: SANSA, episodes: Episode) -> dict[str, Any]:
    """Return the outputs of an episode and the values on the way to them."""
    supports = Supports.join(episodes.supports_of(0))
    shots = network.encode_supports(supports.image, supports.label)
    query = network.see(episodes.query[0])
    conditioned = network.condition(query, shots)
    masks, ious = (x[:, 1:] for x in network.decode(query, conditioned))
    (logits,) = _margins(network(episodes).logits)
    return {
        "logits": logits,
        "support_logits": _of_supports(network, episodes, 0),
        "features": query.coarse[0],
        "conditioned": conditioned[0],
        "memory": shots[0].memory[0],
        "low": masks[0, ious[0].argmax()],
        "ious": ious[0],
        "pointers": torch.cat([shot.pointer for shot in shots]),
    }


def _training(network: SANSA, episodes: Episode) -> dict[str, Any]:
    """Return the losses of some episodes, the norms of their gradients, and all logits."""
    network.zero_grad()
    output = network.train()(episodes)
    sum(output.losses.values()).backward()
    network.eval()
    adapters = {name: SANSA.published.name(name) for name in json_of(FOLDER / "config_small.json")["adapters"]}
    norms = {name: float(network.get_parameter(own).grad.norm()) for name, own in adapters.items()}
    frames = []
    with torch.no_grad():
        for item, query in enumerate(_margins(output.logits).split(1)):
            frames += [_of_supports(network, episodes, item), query]
    losses = {name: np.float64(output.losses[ours].item()) for name, ours in OURS.items()}
    return {**losses, GRADIENTS: norms, "grad_total": np.linalg.norm([*norms.values()]), "logits": torch.cat(frames)}


def _margins(logits_b2hw: Tensor) -> Tensor:
    return logits_b2hw[:, 1] - logits_b2hw[:, 0]


def _of_supports(network: SANSA, episodes: Episode, item: int) -> Tensor:
    """Return the logits that the decoder gives beside the pointers of an item's supports, (K, H, W)."""
    labels = episodes.support_label[item]
    seen = network.features(episodes.support[item])
    mask, _ = network.prompt(labels)
    low, _ = network.decode(seen, seen.coarse, network.sam.mask_downsample(mask))
    return resize_cells(low[:, :1], labels.shape[-2:])[:, 0]


def deviations_of_sansa(stem: str) -> list[str]:
    """Return each value of a case that deviates by more than its bound, in words."""
    with np.load(FOLDER / f"{stem}.npz") as file:
        stored = dict(file)
    network, episodes = _network(str(stored["network"])), drawn_episodes(stored)
    norms = stored.pop(GRADIENTS, None)
    values = {name: stored[name] for name in sorted(stored.keys() - INPUTS)}
    if norms is None:
        with torch.no_grad():
            return deviations(_forward(network, episodes), values, BOUNDS)
    ours = _training(network, episodes)
    return [*deviations(ours, values, BOUNDS), *gradient_deviations(ours[GRADIENTS], json.loads(norms.tobytes()))]
