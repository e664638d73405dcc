"""One measured case of a published model through our own build of it: the same arrays in, the same names out."""

from dataclasses import fields
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from model.bcm.bcm import BCM, NovelRegressions
from model.diam import diam
from model.diam.diam import DIaM, Supports
from model.episode import Episode, EpisodeOfOriginalSizes
from model.kinds.generalised import Cells
from model.parts.linear import LinearHead
from model.registry import models
from model.tensors.cells import on_cells
from tests.helpers.close import same_pixels
from tests.helpers.skip_init import skip_init
from tests.parity.watched import WATCHES, on_calls, usual
from util.config.compose import find_config
from util.config.folds import Fold
from util.config.read import read_config
from util.run.checkpoint import load_state
from util.run.network import build_model

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
    load_state(network, state_dict, "the case")
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


def gfss_case(name: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the numbers of a generalised method, ``bcm`` or ``diam``, for a case that begins at the features."""
    given = {key: torch.from_numpy(value) for key, value in inputs.items() if value.ndim}
    features = given["support_features"].float()
    labels = given["support_labels"]
    query = given["query_features"].float()
    size = labels.shape[-2:]
    valid = given.get("query_valid", torch.ones(len(query), *size))
    network = _without_encoder(name, inputs)
    supports = [Cells(x, on_cells(label, x.shape[-2:])) for x, label in zip(features, labels, strict=True)]
    state = network.fit_cells(supports)
    base_prediction = network.base_probability(query, size).argmax(1)
    prediction = network.channels(query, valid, state, base_prediction)
    assert same_pixels(network.label(query, valid, state).argmax(1), prediction)
    if name == "bcm":
        out = {"base_prediction": base_prediction, **_bcm_steps(network, state, query)}
    else:
        out = _diam_steps(network, state, query, valid)
    return {key: value.numpy() for key, value in {"prediction": prediction, **out}.items()}


def _without_encoder(name: str, inputs: dict[str, np.ndarray]) -> Any:
    """Return the method with the case's base classifier and settings, and nothing before them."""
    method: Any = {"bcm": BCM, "diam": DIaM}[name]
    base = LinearHead(torch.from_numpy(inputs["base_weight"]), torch.from_numpy(inputs["base_bias"]))
    network = type("WithoutEncoder", (method,), {"base": base, "__init__": nn.Module.__init__})()
    names = {f.name for f in fields(method.Settings)}
    network.settings = method.Settings(**{key: value.tolist() for key, value in inputs.items() if key in names})
    return network


def _bcm_steps(network: Any, state: NovelRegressions, query: Tensor) -> dict[str, Tensor]:
    """Return the association of classes, and scores, choice and probabilities of every regression."""
    power = query.pow(network.settings.beta)
    out = {"counts": state.counts, "table": state.table}
    for base_class, votes in state.votes.items():
        out[f"chosen_c_{base_class}"] = torch.tensor([vote.chosen for vote in votes])
        out[f"scores_{base_class}"] = torch.tensor(np.array([vote.scores for vote in votes]))
        for number, vote in enumerate(votes):
            out[f"prob_{base_class}_{number}"] = vote.probability(power)
    return out


def _diam_steps(network: Any, state: Supports, query: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """Return start and end of the classifiers, the losses of all steps, and the first and the last prior."""
    heads, losses = [], []
    first_priors, last_priors = [], []
    for x_chw, valid_hw in zip(query, valid):
        steps = list[tuple[Tensor, Tensor]]()  # prior, and terms (4,)
        on_calls(diam, "loss_terms", lambda given, terms, steps=steps: steps.append((given[2], torch.stack(terms))))
        heads.append(diam.adapt(x_chw, valid_hw, state, network.settings))
        mock.patch.stopall()
        priors, terms = zip(*steps)
        losses.append(torch.stack(terms).detach())
        first_priors.append(priors[0])
        last_priors.append(priors[-1])
    logits = [head.logits(x_chw[None])[0] for head, x_chw in zip(heads, query)]
    return {
        "novel_weight_start": state.start.weight[len(network.base.bias) :],
        "prior_start": torch.stack(first_priors),
        "losses": torch.stack(losses, dim=1),
        "prior_end": torch.stack(last_priors),
        "weight": torch.stack([head.weight for head in heads]),
        "bias": torch.stack([head.bias for head in heads]),
        "probability": torch.stack(logits).softmax(1),
    }
