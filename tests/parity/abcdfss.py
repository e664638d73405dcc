"""ABCDFSS: its tensors of the measured cases, whose heads start from given weights, and whose shears are given too."""

from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from model.abcdfss import abcdfss
from model.encoders.layouts import load_encoder
from model.tensors.cells import resize_cells
from tests.helpers.skip_init import skip_init
from tests.parity.drawn.weights import fill
from tests.parity.watched import Case, on_calls
from util.config.compose import find_config
from util.config.read import read_config
from util.run.build import build_model

HEAD = ("conv.weight", "conv.bias", "bn.weight", "bn.bias", "linear.weight", "linear.bias")  # in the cases' order
LOSSES = {"contrast": 2, "statistics": 2, "prototypes": 1}  # and how many a step has: of query and supports
OURS = {"contrast": "contrast_loss", "statistics": "statistics_loss", "prototypes": "prototype_loss"}
FEATURES, QUERY, SUPPORT = 64, 8, 16  # every so many channels of these are stored


def abcdfss_case(case: Case, state_dict: dict[str, Tensor], device: str = "cpu") -> Case:
    """Return every output of a case, by the names of its file and in its thinned shapes."""
    size, shots = case["query"].shape[1], case["support"].shape[1]
    settings = [f"data.size={size}", f"data.shot={shots}", f"model.steps={case['steps']}"]
    config = read_config(find_config("split0", "pascal", "abcdfss", "resnet50"), [*settings, "run.device=cpu"])
    with skip_init():
        network: Any = build_model(config, text_width=0)
    load_encoder(network.encoder, state_dict, partial=False)
    network.shears = case["shears"].tolist()
    network.to(device).eval()

    heads, gradients = list[nn.Module](), list[list[float]]()
    outputs, levels, thresholds = dict[nn.Module, list[Tensor]](), list[tuple[tuple, Tensor]](), list[Any]()
    losses: dict[str, list[float]] = {name: [] for name in LOSSES}
    on_calls(abcdfss, "threshold", lambda inputs, output: thresholds.append((inputs[0], output)))
    for name, ours in OURS.items():
        on_calls(abcdfss, ours, lambda _, output, name=name: losses[name].append(output.item()))
    on_calls(abcdfss, "_new_head", lambda _, head: heads.append(_begun(head, len(heads), outputs, gradients)))
    level_score = network._level_score

    def noted(*inputs: Any) -> Tensor:
        score = level_score(*inputs)
        levels.append((inputs, score))
        return score

    network._level_score = noted
    with torch.inference_mode():
        output = network(_episode(case).to(torch.device(device)))
    mock.patch.stopall()

    [(score, threshold)] = thresholds
    out = {"score": score, "threshold": threshold, "pred": output.logits.argmax(1)[0].to(torch.uint8)}
    out |= _of_levels(levels)
    for i, head in enumerate(heads):
        query, supports = outputs[head][-2:]  # after the fit
        out[f"mid_adapted_query_{i}"] = query[0, ::QUERY]
        out[f"mid_adapted_supp_{i}"] = supports[:, ::SUPPORT]
    if case["steps"]:
        out |= _of_fit(losses, gradients, len(heads))
    return {name: tensor.cpu().numpy() for name, tensor in out.items()}


def _begun(head: nn.Module, level: int, outputs: dict[nn.Module, list[Tensor]], norms: list[list[float]]) -> nn.Module:
    """Fill a new head with the case's weights; have its outputs and the norms of its first gradients kept."""
    first = [0.0] * len(HEAD)
    norms.append(first)
    for i, (name, parameter) in enumerate(zip(HEAD, head.parameters(), strict=True)):
        parameter.data.copy_(fill(f"level{level}.{name}", tuple(parameter.shape)))
        parameter.register_hook(lambda x, i=i: first.__setitem__(i, first[i] or float(x.norm())))
    head.register_forward_hook(lambda head, _, output: outputs.setdefault(head, []).append(output.detach()))
    return head


def _of_levels(levels: list[tuple[tuple, Tensor]]) -> dict[str, Tensor]:
    """Return what the levels see, and their scores on the finest grid."""
    finest = max(score.shape[-2:] for _, score in levels)
    out = {"mid_level_scores": torch.cat([resize_cells(score, finest)[0] for _, score in levels])}
    for i, ((views, _, sheared_masks, _), _) in enumerate(levels):
        out[f"mid_query_feat_{i}"] = views[0][0, ::FEATURES]
        out["mid_sheared_masks"] = sheared_masks[:, :, 0].to(torch.uint8)
    return out


def _of_fit(losses: dict[str, list[float]], gradients: list[list[float]], levels: int) -> dict[str, Tensor]:
    """Return the losses of every level and step, their sum, and the first step's gradients."""
    out = {"grad_norms": torch.tensor(gradients)}
    for name, count in LOSSES.items():
        out[f"loss_{name}"] = torch.tensor(losses[name]).view(levels, -1, count)
    out["loss"] = torch.cat(list(out.values())[1:], dim=2).sum(2)
    return out


def _episode(case: Case) -> Any:
    return abcdfss.Episode(
        query=torch.from_numpy(case["query"]).permute(0, 3, 1, 2).contiguous(),
        query_label=torch.from_numpy(case["query_label"]),
        support=torch.from_numpy(case["support"]).permute(0, 1, 4, 2, 3).contiguous(),
        support_label=torch.from_numpy(case["support_label"]),
        class_id=torch.from_numpy(case["class_id"]),
        base_id=torch.zeros(1, dtype=torch.int64),
        number=torch.zeros(1, dtype=torch.int64),
    )


def thresholds_of(maps: np.ndarray) -> np.ndarray:
    """Return our threshold of each map."""
    return np.array([float(abcdfss.threshold(torch.from_numpy(score_hw))) for score_hw in maps])
