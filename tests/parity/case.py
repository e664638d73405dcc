"""One case of a published model through our own build of it: the same arrays in, the same names out."""

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from model.episode import Episode, EpisodeOfOriginalSizes
from model.registry import methods
from tests.helpers.read import config_of
from tests.helpers.skip_init import skip_init
from tests.parity.compare import Arrays
from tests.parity.watched import WATCHES, usual
from util.config.folds import Fold
from util.config.settings import Config
from util.run.build import build_model
from util.weights.checkpoint import Checkpoint
from util.weights.fill import fill

RANDOM = (nn.Dropout, nn.Dropout2d)
BACKBONES = {"swin": "swin_b"}  # the cases' words for encoders, where ours are others
GRADIENTS = "grad_norms"
PARTS = ("query", "query_label", "support", "support_label", "class_id", "query_base_label")  # of a case


def forward_case(
    model: str,
    case: Arrays,
    state_dict: dict[str, Tensor],
    *,
    backbone: str,
    train: bool = False,
    norms_train: bool = False,
    vectors: np.ndarray | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Return the model's values for a case, under the names of the case files; ``grad_norms`` by published names.

    Args:
        model: the method's name.
        case: images (B, S, S, 3), labels and classes, and the settings of the case.
        state_dict: weights, under their published names.
        backbone: the encoder.
        train: compute in training, dropouts and batch norms in evaluation.
        norms_train: leave PFENet's encoder the batch norms of its published training.
        vectors: word vectors of the classes, (classes, T), where the method reads them.
        device: where to compute.
    """
    config = _config(model, case, backbone, norms_train)
    with skip_init():
        network = build_model(config, text_width=0 if vectors is None else vectors.shape[1])
    fill(network, Checkpoint.of_others(state_dict, Path("the case")))
    network.to(device).train(train)
    for module in network.modules():
        if isinstance(module, RANDOM if norms_train else (*RANDOM, nn.BatchNorm2d)):
            module.eval()
    collect = WATCHES[model](network)
    with torch.set_grad_enabled(train):
        output = network(episode_of(case, Fold.of(config.data), vectors).to(torch.device(device)))
    mock.patch.stopall()
    values = usual(output) | collect(output)
    result = {name: x.detach().cpu() for name, x in values.items() if torch.is_tensor(x)}
    if train:
        sum(output.losses.values()).backward()
        layout = methods()[model].published
        result[GRADIENTS] = _gradient_norms(network, {name: layout.name(name) for name in state_dict})
    return result


def _config(model: str, case: Arrays, backbone: str, norms_train: bool) -> Config:
    """Return the config of a method as a case was measured."""
    shots = case["support"].shape[1]
    settings = ["run.device=cpu", f"data.size={case['query'].shape[1]}", f"data.shot={shots}"]
    if "scales" in case:
        settings.append(f"model.scales={np.asarray(case['scales']).tolist()}")
    if "grid" in case:
        settings.append(f"model.grid={case['grid']}")
    if model == "pfenet":
        settings.append(f"model.train_encoder_norms={str(norms_train).lower()}")
    if "refine" in case:
        settings.append(f"model.refine={str(bool(case['refine'])).lower()}")
    return config_of("split0", "pascal", model, BACKBONES.get(backbone, backbone), overrides=settings)


def _gradient_norms(network: nn.Module, published: dict[str, str]) -> dict[str, float]:
    """Return the norm of the gradient of every tensor that learns, by its published name."""
    parameters = dict(network.named_parameters())
    norms = {}
    for name, our_name in published.items():
        parameter = parameters.get(our_name)
        if parameter is not None and parameter.requires_grad:
            norms[name] = 0.0 if parameter.grad is None else float(parameter.grad.norm())
    return norms


def episode_of(case: Arrays, fold: Fold, vectors: np.ndarray | None = None) -> Episode:
    """Return the episode of a case, whose arrays have channels last."""
    given = {name: torch.from_numpy(case[name]) for name in PARTS if name in case}
    class_id = given.pop("class_id").long()
    query, support = (given.pop(name).movedim(-1, -3).contiguous() for name in ("query", "support"))
    episode_class = Episode
    if support.shape[2:] != query.shape[1:]:  # images of different sizes come as a list of shots
        support, given["support_label"] = ([*x.unbind(1)] for x in (support, given["support_label"]))
        episode_class = EpisodeOfOriginalSizes
    base_id = torch.from_numpy(fold.base_table).long()[class_id]
    text = None if vectors is None else torch.from_numpy(vectors)[class_id]
    number = torch.arange(len(class_id))
    return episode_class(query, support=support, class_id=class_id, base_id=base_id, number=number, text=text, **given)
