"""One measured case of a published model through our own build of it: the same arrays in, the same names out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from model.contract import Episode
from model.published import symnet_name
from util.config import read_config
from util.data.folds import Fold
from util.data.text import read_vectors
from util.engine.build import build_model
from util.engine.checkpoint import load_weights

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("SYMNET_SHARED", REPOSITORY.parent / "shared"))
NORMALLY_RANDOM = (nn.Dropout, nn.Dropout2d, nn.BatchNorm2d)
MODULES = {  # published intermediate -> (module, how its output becomes the case's array)
    "mid_query_feat": "project_query",
    "mid_hyper": "fuse_correlation",
}


def forward_case(
    model: str,
    case: dict[str, np.ndarray],
    state_dict: dict[str, Tensor],
    *,
    backbone: str,
    dataset: str,
    train: bool = False,
) -> dict[str, np.ndarray]:
    """Return what the model gives for a case, under the names of the case files."""
    shots = case["support"].shape[1]
    overrides = {
        "data.size": case["query"].shape[1],
        "data.shot": shots,
        "model.scales": [int(z) for z in case["scales"]],
        "run.device": "cpu",
    }
    settings = [f"{key}={value}" for key, value in overrides.items()]
    config = read_config(REPOSITORY / f"config/{dataset}/{dataset}_split0_{backbone}.yaml", settings)
    fold = Fold.of(config.data)
    vectors = read_vectors(SHARED / "embeddings" / f"word2vec_{dataset}.pkl")
    network = build_model(config, text_width=vectors.shape[1])
    load_weights(network, state_dict, "the case")
    network.train(train)
    for module in network.modules():
        if isinstance(module, NORMALLY_RANDOM):
            module.eval()
    watched = _watch(network, shots)
    with torch.set_grad_enabled(train):
        output = network(_episode(case, fold, vectors))
    result = {name: value.detach().numpy() for name, value in watched.items()}
    if not train:
        return result | {"final": output.logits.numpy()} | {k: v.numpy() for k, v in output.extra.items()}
    sum(output.losses.values()).backward()
    result |= {f"loss_{name}": value.detach().numpy() for name, value in output.losses.items()}
    result["pred"] = output.logits.argmax(1).to(torch.uint8).numpy()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    ours = {name: symnet_name(name) for name in state_dict}
    result["grad_norms"] = {name: float(gradients[o].norm()) for name, o in ours.items() if o in gradients}
    return result


def _episode(case: dict[str, np.ndarray], fold: Fold, vectors: np.ndarray) -> Episode:
    class_id = torch.from_numpy(case["class_id"]).long()
    return Episode(
        query=torch.from_numpy(case["query"]).permute(0, 3, 1, 2).contiguous(),
        query_label=torch.from_numpy(case["query_label"]),
        support=torch.from_numpy(case["support"]).permute(0, 1, 4, 2, 3).contiguous(),
        support_label=torch.from_numpy(case["support_label"]),
        class_id=class_id,
        base_id=torch.tensor([int(fold.base_table[c]) for c in class_id.tolist()]),
        number=torch.arange(len(class_id)),
        query_base_label=torch.from_numpy(case["query_base_label"]),
        text=torch.from_numpy(vectors)[class_id],
    )


def _watch(network: nn.Module, shots: int) -> dict[str, Tensor]:
    """Keep the intermediate tensors that the cases hold, by hooks on the modules that make them."""
    seen: dict[str, Tensor] = {}

    def keep(name: str):
        return lambda module, inputs, output: seen.__setitem__(name, output)

    def keep_prior(module: nn.Module, inputs: tuple, output: tuple) -> None:
        seen["mid_prior"] = inputs[-1]

    def keep_correlation(module: nn.Module, inputs: tuple, output: dict[int, Tensor]) -> None:
        for stage, maps in output.items():
            size = output[3].shape[-2:]
            aligned = nn.functional.interpolate(maps, size=size, mode="bilinear", align_corners=True)
            seen[f"mid_corr{stage}"] = maps if maps.shape[-2:] == size else aligned

    def keep_alignment(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        first = "mid_support_text" not in seen  # the model aligns the supports, then the query
        seen["mid_support_text" if first else "mid_query_text"] = output.unflatten(0, (-1, shots)) if first else output

    for name, module in MODULES.items():
        getattr(network, module).register_forward_hook(keep(name))
    network.decoder.register_forward_hook(keep_prior)
    network.correlation.register_forward_hook(keep_correlation)
    network.align.register_forward_hook(keep_alignment)
    return seen
