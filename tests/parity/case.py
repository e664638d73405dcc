"""One measured case of a published model through our own build of it: the same arrays in, the same names out."""

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from model.episode import Episode, EpisodeOfOriginalSizes
from model.registry import models
from tests.helpers.skip_init import skip_init
from tests.parity.watched import WATCHES, usual
from util.config.compose import find_config
from util.config.folds import Fold
from util.config.read import read_config
from util.run.build import build_model
from util.weights.checkpoint import Checkpoint
from util.weights.fill import fill

RANDOM = (nn.Dropout, nn.Dropout2d)
BACKBONES = {"swin": "swin_b"}  # the cases' words for encoders, where ours are others


def forward_case(
    model: str,
    case: dict[str, np.ndarray],
    state_dict: dict[str, Tensor],
    *,
    backbone: str,
    dataset: str = "pascal",
    train: bool = False,
    norms_train: bool = False,
    vectors: np.ndarray | None = None,
    device: str = "cpu",
) -> dict[str, np.ndarray]:
    """Return the model's tensors for a case, under the names and in the thinned shapes of the case files.

    ``norms_train`` leaves PFENet's encoder the batch norms of its published training. ``vectors`` are the word vectors
    of its classes, (classes, T), where the method reads them.
    """
    config = _config(model, case, backbone, dataset, norms_train)
    fold = Fold.of(config.data)
    with skip_init():
        network = build_model(config, text_width=0 if vectors is None else vectors.shape[1])
    fill(network, Checkpoint.of_others(state_dict, Path("the case")))
    network.to(device).train(train)
    for module in network.modules():
        if isinstance(module, RANDOM if norms_train else (*RANDOM, nn.BatchNorm2d)):
            module.eval()
    collect = WATCHES[model](network, case)
    with torch.set_grad_enabled(train):
        output = network(_episode(case, fold, vectors).to(torch.device(device)))
    mock.patch.stopall()
    result = {name: x for name, x in {**usual(output), **collect(output)}.items() if isinstance(x, Tensor)}
    if train:
        sum(output.losses.values()).backward()
        published = {name: models()[model].published.name(name) for name in state_dict}
        result["grad_norms"] = _gradient_norms(network, published)
    return {name: _plain(value, case.get(name)) for name, value in result.items()}


def _config(model: str, case: dict[str, np.ndarray], backbone: str, dataset: str, norms_train: bool) -> Any:
    """Return the config of a method as a case was measured."""
    shots = case["support"].shape[1]
    settings = ["run.device=cpu", f"data.size={case['query'].shape[1]}", f"data.shot={shots}"]
    if "scales" in case:
        settings.append(f"model.scales={[int(z) for z in case['scales']]}")
    if "grid" in case:
        settings.append(f"model.grid={case['grid']}")
    if model == "pfenet":
        settings.append(f"model.train_encoder_norms={str(norms_train).lower()}")
    if "refine" in case:
        settings.append(f"model.refine={str(bool(case['refine'])).lower()}")
    return read_config(find_config("split0", dataset, model, BACKBONES.get(backbone, backbone)), settings)


def _gradient_norms(network: nn.Module, published: dict[str, str]) -> dict[str, float]:
    """Return the norm of the gradient of every tensor that learns, by its published name."""
    parameters = dict(network.named_parameters())
    norms = {}
    for name, our_name in published.items():
        parameter = parameters.get(our_name)
        if parameter is not None and parameter.requires_grad:
            norms[name] = _norm(parameter)
    return norms


def _norm(parameter: nn.Parameter) -> float:
    return 0.0 if parameter.grad is None else float(parameter.grad.norm())


def _plain(value: Tensor | dict, stored: np.ndarray | None) -> np.ndarray | dict:
    """Return an array, thinned to every c-th channel and every s-th position where the case's array is."""
    if isinstance(value, dict):
        return value
    array = value.detach().cpu().numpy()
    if stored is None or array.shape == stored.shape or array.ndim < 2 or array.ndim != stored.ndim:
        return array
    channel_step = array.shape[1] // stored.shape[1]
    steps = [channel_step, *(-(-full // kept) for full, kept in zip(array.shape[2:], stored.shape[2:]))]
    return array[(slice(None), *(slice(None, None, step) for step in steps))]


def _episode(case: dict[str, np.ndarray], fold: Fold, vectors: np.ndarray | None) -> Episode:
    class_id = torch.from_numpy(case["class_id"]).long()
    support = torch.from_numpy(case["support"]).permute(0, 1, 4, 2, 3).contiguous()
    support_label = torch.from_numpy(case["support_label"])
    if case["support"].shape[2:4] != case["query"].shape[1:3]:  # images of different sizes come as a list of shots
        support, support_label = list(support.unbind(1)), list(support_label.unbind(1))
    base_label = case.get("query_base_label")
    base_ids = [int(fold.base_table[c]) for c in class_id.tolist()]
    episode_class = Episode if isinstance(support, torch.Tensor) else EpisodeOfOriginalSizes
    return episode_class(
        query=torch.from_numpy(case["query"]).permute(0, 3, 1, 2).contiguous(),
        query_label=torch.from_numpy(case["query_label"]),
        support=support,
        support_label=support_label,
        class_id=class_id,
        base_id=torch.tensor(base_ids),
        number=torch.arange(len(class_id)),
        query_base_label=None if base_label is None else torch.from_numpy(base_label),
        text=None if vectors is None else torch.from_numpy(vectors)[class_id],
    )
