"""Measured cases of SANSA on drawn images: our network with weights made from the published names."""

import functools
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.contract import Task
from model.episode import Episode
from model.sansa.sansa import SANSA, SANSASettings
from model.tensors.cells import resize_cells
from tests.parity.drawn.drawn import episode
from tests.parity.drawn.weights import fill
from tests.parity.foundation import require_transformers

Arrays = dict[str, np.ndarray]
FOLDER = Path(__file__).parent / "drawn" / "sansa"
TASK = Task(base_classes=1, shots=1, size=97, text_width=0)
INPUTS = {"network", "seed", "shots", "side", "crop", "inputs_crc32", "all_frames"}
PROMPTS = "prompt_"  # how names of points and boxes begin
CODE = "prompt_encoder.shared_embedding.positional_embedding"
FLOAT16 = 1e-3  # bound of values that are stored in half precision
# Relative bounds of the other values, and of the gradients' norms
BOUNDS = {"loss_mask": 1e-5, "loss_dice": 1e-5, "ious": 2e-6, "pointers": 3e-6}
BOUND, GRADIENT_BOUND = 2e-5, 1e-3


@functools.cache
def _network(name: str) -> SANSA:
    """Return the network of some cases, without dropout, in evaluation."""
    library = require_transformers()
    config = json.loads((FOLDER / f"config_{name}.json").read_text())
    sam = library.Sam2VideoModel(library.Sam2VideoConfig(**config["library"])).eval()
    with torch.no_grad():
        for key, parameter in sam.named_parameters():
            scale = next((value for part, value in config["scales"].items() if part in key), 1.0)
            parameter.copy_(fill(key, tuple(parameter.shape)) * scale)
        code = sam.prompt_encoder.shared_embedding.positional_embedding
        for buffer in (code, sam.shared_image_embedding.positional_embedding):
            buffer.copy_(fill(CODE, tuple(code.shape)))
    settings = SANSASettings(factor=config["factor"], stages=config["stages"], dropout=False)
    model = SANSA(settings, TASK, sam)
    given = {SANSA.published.name(key): fill(key, shape) for key, shape in config["adapters"].items()}
    model.adapters.load_state_dict({key.removeprefix("adapters."): tensor for key, tensor in given.items()})
    return model.eval()


def drawn_episodes(inputs: Arrays) -> Episode:
    """Return a case's episodes, one for each seed."""
    height, width = inputs["crop"]
    seeds = np.atleast_1d(inputs["seed"])
    drawn = [episode(int(seed), int(inputs["shots"]), int(inputs["side"])) for seed in seeds]
    joint = {name: torch.from_numpy(np.concatenate([each[name] for each in drawn])) for name in drawn[0]}
    cut = {name: x[..., :height, :width] for name, x in joint.items() if name != "class_id"}
    class_id = joint["class_id"]
    return Episode(**cut, class_id=class_id, base_id=class_id, number=torch.arange(len(seeds)))


def check_sum(episodes: Episode) -> int:
    """Return the CRC-32 of the masks of episodes, supports first."""
    labels = torch.cat([episodes.support_label, episodes.query_label[:, None]], 1)
    masks = (labels == 1).byte().numpy()
    return zlib.crc32(np.ascontiguousarray(masks).tobytes())


def sansa_case(inputs: Arrays) -> dict[str, Any]:
    """Return all outputs of a case by its inputs, whole; NotImplementedError: supports with points or boxes."""
    if any(key.startswith(PROMPTS) for key in inputs):
        raise NotImplementedError("supports have masks here")
    network = _network(str(inputs["network"]))
    episodes = drawn_episodes(inputs)
    if "all_frames" in inputs:
        return _training(network, episodes)
    with torch.no_grad():
        return _forward(network, episodes)


def _forward(network: SANSA, episodes: Episode) -> Arrays:
    """Return the outputs of an episode and the values on the way to them."""
    supports = episodes.supports_of(0)
    shots = network.encode(*map(torch.stack, zip(*supports)))
    query = network.see(episodes.query[0])
    conditioned = network.condition(query, shots)
    masks, ious = (x[:, 1:] for x in network.decode(query, conditioned))
    (logits,) = _margins(network(episodes).logits)
    given = {
        "logits": logits,
        "support_logits": _of_supports(network, episodes, 0),
        "features": query.coarse[0],
        "conditioned": conditioned[0],
        "memory": shots[0].memory[0],
        "low": masks[0, ious[0].argmax()],
        "ious": ious[0],
        "pointers": torch.cat([shot.pointer for shot in shots]),
    }
    return {name: value.numpy() for name, value in given.items()}


def _training(network: SANSA, episodes: Episode) -> dict[str, Any]:
    """Return the losses of some episodes, the norms of their gradients, and all logits."""
    network.zero_grad()
    network.train()
    try:
        output = network(episodes)
        sum(output.losses.values()).backward()
    finally:
        network.eval()
    parameters = dict(network.named_parameters())
    names = list(json.loads((FOLDER / "config_small.json").read_text())["adapters"])
    gradients = {name: parameters[SANSA.published.name(name)].grad for name in names}
    norms = {name: float(gradient.norm()) for name, gradient in gradients.items()}
    with torch.no_grad():
        frames = [_of_supports(network, episodes, item) for item in range(len(episodes.query))]
    queries = _margins(output.logits.detach())
    logits = torch.cat([torch.cat([frame, query[None]]) for frame, query in zip(frames, queries)])
    losses = {name: np.float64(output.losses[ours].item()) for name, ours in OURS.items()}
    return {**losses, "grad_norms": norms, "grad_total": np.linalg.norm([*norms.values()]), "logits": logits.numpy()}


OURS = {"loss_mask": "focal", "loss_dice": "dice"}


def _margins(logits_b2hw: Tensor) -> Tensor:
    return logits_b2hw[:, 1] - logits_b2hw[:, 0]


def _of_supports(network: SANSA, episodes: Episode, item: int) -> Tensor:
    """Return the logits that the decoder gives beside the pointers of an item's supports, (K, H, W)."""
    labels = episodes.support_label[item]
    seen = network.features(episodes.support[item])
    mask, _ = network.prompt(labels)
    low, _ = network.decode(seen, seen.coarse, network.sam.mask_downsample(mask))
    return resize_cells(low[:, :1], labels.shape[-2:])[:, 0]


def deviations(stem: str) -> list[str]:
    """Return each value of a case that deviates by more than its bound, in words."""
    with np.load(FOLDER / f"{stem}.npz") as file:
        stored = dict(file)
    assert check_sum(drawn_episodes(stored)) == stored["inputs_crc32"], "other images are drawn"
    given = sansa_case(stored)
    found = []
    for name in sorted(stored.keys() - INPUTS):
        if name == "grad_norms":
            found += _of_gradients(given[name], json.loads(stored[name].tobytes()))
            continue
        bound = FLOAT16 if stored[name].dtype == np.float16 else BOUNDS.get(name, BOUND)
        bound = GRADIENT_BOUND if name == "grad_total" else bound
        apart = _apart(thinned(np.asarray(given[name]), stored[name].shape), stored[name])
        if not apart <= bound:
            found.append(f"{name}: {apart:.2g} of its norm")
    return found


def thinned(whole: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return every s-th value of each dimension so that an array has a stored one's shape."""
    whole = whole[: shape[0]] if whole.ndim == 3 and shape[0] == 1 else whole  # of supports the first alone
    steps = (-(-given // kept) for given, kept in zip(whole.shape, shape, strict=True))
    return whole[tuple(slice(None, None, step) for step in steps)]


def _apart(given: np.ndarray, stored: np.ndarray) -> float:
    want = stored.astype(np.float64)
    assert given.shape == want.shape, (given.shape, want.shape)
    return float(np.linalg.norm(given - want) / np.linalg.norm(want))


def _of_gradients(given: dict[str, float], stored: dict[str, float]) -> list[str]:
    """Return the norms of gradients that deviate; exactly the published parameters learn."""
    assert given.keys() == stored.keys()
    wrong = [name for name, want in stored.items() if not abs(given[name] - want) <= GRADIENT_BOUND * want]
    return [f"gradient of {name}: {given[name]} in place of {stored[name]}" for name in wrong]
