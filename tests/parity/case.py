"""One measured case of a published model through our own build of it: the same arrays in, the same names out."""

from dataclasses import fields
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from model.bcm.bcm import BCM
from model.common.linear import LinearHead
from model.diam.diam import DIaM, adapt
from model.episode import Episode, EpisodeOfOriginalSizes
from model.registry import models
from tests.helpers.paths import REPOSITORY, SHARED
from tests.helpers.skip_init import skip_init
from tests.parity.watched import WATCHES, usual
from util.checkpoints.checkpoint import load_state
from util.config.folds import Fold
from util.config.read import read_config
from util.data.words.text import read_vectors
from util.runtime.network import build_model

NORMALLY_RANDOM = (nn.Dropout, nn.Dropout2d, nn.BatchNorm2d)
BACKBONES = {"swin": "swin_b"}  # the cases' words for encoders, where ours are others


def forward_case(
    model: str,
    case: dict[str, np.ndarray],
    state_dict: dict[str, Tensor],
    *,
    backbone: str,
    dataset: str = "pascal",
    train: bool = False,
    device: str = "cpu",
) -> dict[str, np.ndarray]:
    """Return the model's tensors for a case, under the names and in the thinned shapes of the case files."""
    shots = case["support"].shape[1]
    settings = ["run.device=cpu", f"data.size={case['query'].shape[1]}", f"data.shot={shots}"]
    if "scales" in case:
        settings.append(f"model.scales={[int(z) for z in case['scales']]}")
    if "refine" in case:
        settings.append(f"model.refine={str(bool(case['refine'])).lower()}")
    middle = "" if model == "symnet" else f"{model}_"
    name = f"{dataset}_split0_{middle}{BACKBONES.get(backbone, backbone)}.yaml"
    config = read_config(REPOSITORY / "config" / dataset / name, settings)
    fold = Fold.of(config.data)
    vectors = read_vectors(SHARED / "embeddings" / f"word2vec_{dataset}.pkl") if model == "symnet" else None
    with skip_init():
        network = build_model(config, text_width=0 if vectors is None else vectors.shape[1])
    load_state(network, state_dict, "the case")
    network.to(device).train(train)
    for module in network.modules():
        if isinstance(module, NORMALLY_RANDOM):
            module.eval()
    collect = WATCHES[model](network, case)
    with torch.set_grad_enabled(train):
        output = network(_episode(case, fold, vectors).to(torch.device(device)))
    mock.patch.stopall()
    result = {name: x for name, x in {**usual(output), **collect(output)}.items() if isinstance(x, Tensor)}
    if train:
        sum(output.losses.values()).backward()
        named = dict(network.named_parameters())
        ours = {name: models()[model].published.name(name) for name in state_dict}
        norms = {n: _norm(named[o]) for n, o in ours.items() if o in named and named[o].requires_grad}
        result["grad_norms"] = norms
    return {name: _plain(value, case.get(name)) for name, value in result.items()}


def _norm(parameter: nn.Parameter) -> float:
    return 0.0 if parameter.grad is None else float(parameter.grad.norm())


def _plain(value: Tensor | dict, stored: np.ndarray | None) -> np.ndarray | dict:
    """Return an array, thinned to every c-th channel and every s-th position where the case's array is."""
    if isinstance(value, dict):
        return value
    array = value.detach().cpu().numpy()
    if stored is None or array.shape == stored.shape or array.ndim < 2 or array.ndim != stored.ndim:
        return array
    channels = array.shape[1] // stored.shape[1]
    steps = [-(-full // kept) for full, kept in zip(array.shape[2:], stored.shape[2:])]
    return array[(slice(None), slice(None, None, channels), *(slice(None, None, s) for s in steps))]


def _episode(case: dict[str, np.ndarray], fold: Fold, vectors: np.ndarray | None) -> Episode:
    class_id = torch.from_numpy(case["class_id"]).long()
    support = torch.from_numpy(case["support"]).permute(0, 1, 4, 2, 3).contiguous()
    support_label = torch.from_numpy(case["support_label"])
    if case["support"].shape[2:4] != case["query"].shape[1:3]:  # images of different sizes come as a list of shots
        support, support_label = list(support.unbind(1)), list(support_label.unbind(1))
    base_label = case.get("query_base_label")
    kind = Episode if isinstance(support, torch.Tensor) else EpisodeOfOriginalSizes
    return kind(
        query=torch.from_numpy(case["query"]).permute(0, 3, 1, 2).contiguous(),
        query_label=torch.from_numpy(case["query_label"]),
        support=support,
        support_label=support_label,
        class_id=class_id,
        base_id=torch.tensor([int(fold.base_table[c]) for c in class_id.tolist()]),
        number=torch.arange(len(class_id)),
        query_base_label=None if base_label is None else torch.from_numpy(base_label),
        text=None if vectors is None else torch.from_numpy(vectors)[class_id],
    )


def gfss_case(name: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the numbers of a generalised method, ``bcm`` or ``diam``, for a case that begins at the features."""
    given = {key: torch.from_numpy(value) for key, value in inputs.items() if value.ndim}
    base, labels = LinearHead(given["base_weight"], given["base_bias"]), given["support_labels"]
    features, query, size = given["support_features"].float(), given["query_features"].float(), labels.shape[-2:]
    kind: Any = {"bcm": BCM, "diam": DIaM}[name]
    network = type("Bare", (kind,), {"base": base, "__init__": nn.Module.__init__})()  # no encoder
    names = {f.name for f in fields(kind.Settings)}
    network.settings = kind.Settings(**{k: v.tolist() for k, v in inputs.items() if k in names})
    state, valid = network.fit_features(features, labels), given.get("query_valid", torch.ones(len(query), *size))
    alone = network.base_probability(query, size).argmax(1)
    out = {"prediction": network.channels(query, valid, state, alone)}
    assert torch.equal(out["prediction"], network.label(query, valid, state).argmax(1))
    if name == "bcm":
        out |= {"counts": state.counts, "table": state.table, "base_prediction": alone}
        for k, votes in state.votes.items():
            out[f"chosen_c_{k}"] = torch.tensor([vote.chosen for vote in votes])
            out[f"scores_{k}"] = torch.tensor(np.array([vote.scores for vote in votes]))
            x = query.pow(network.settings.beta)
            out |= {f"prob_{k}_{s}": v.probability(x) for s, v in enumerate(votes)}
    else:
        heads = [adapt(*one, state, network.settings) for one in zip(query, valid)]
        out["probability"] = torch.stack([head.logits(x[None])[0].softmax(0) for head, x in zip(heads, query)])
        out["novel_weight_start"] = state.start.weight[len(base.bias) :]
        out |= {key: torch.stack(each) for key, each in zip(("weight", "bias"), zip(*heads))}
    return {key: value.numpy() for key, value in out.items()}
