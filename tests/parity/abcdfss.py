"""ABCDFSS: its values of the measured cases, whose heads start from given weights, and whose shears are given too."""

from unittest import mock

import torch
from torch import Tensor, nn

from model.abcdfss import abcdfss
from model.encoders.layouts import load_encoder
from tests.helpers.read import config_of
from tests.helpers.skip_init import skip_init
from tests.parity.case import episode_of
from tests.parity.compare import Arrays
from tests.parity.drawn.weights import fill
from tests.parity.watched import on_calls
from util.config.folds import Fold
from util.run.build import build_model

HEAD = ("conv.weight", "conv.bias", "bn.weight", "bn.bias", "linear.weight", "linear.bias")  # in the cases' order
LOSSES = {"contrast": 2, "statistics": 2, "prototypes": 1}  # and how many a step has: of query and supports
OURS = {"contrast": "contrast_loss", "statistics": "statistics_loss", "prototypes": "prototype_loss"}
# Bounds where heads are fitted: the softmax of unscaled features enlarges rounding.
BOUNDS = {"loss_": 1e-4, "loss": 1e-5, "threshold": 1e-4, "score": 1e-3}
WITHOUT_FIT = {"threshold": 1e-5, "score": 1e-5}


def abcdfss_case(case: Arrays, state_dict: dict[str, Tensor], device: str = "cpu") -> dict[str, Tensor]:
    """Return score, threshold and mask of a case, and the losses of the fit of every level and step."""
    size, shots = case["query"].shape[1], case["support"].shape[1]
    settings = [f"data.size={size}", f"data.shot={shots}", f"model.steps={case['steps']}", "run.device=cpu"]
    config = config_of("split0", "pascal", "abcdfss", "resnet50", overrides=settings)
    with skip_init():
        network = build_model(config, text_width=0)
    load_encoder(network.encoder, state_dict, partial=False)
    network.shears = case["shears"].tolist()
    network.to(device).eval()

    heads, thresholds = [], []
    losses = {name: [] for name in LOSSES}
    on_calls(abcdfss, "threshold", lambda inputs, output: thresholds.append((inputs[0], output)))
    on_calls(abcdfss, "_new_head", lambda _, head: heads.append(_begun(head, len(heads))))
    for name, ours in OURS.items():
        on_calls(abcdfss, ours, lambda _, output, name=name: losses[name].append(output.item()))
    with torch.inference_mode():
        output = network(episode_of(case, Fold.of(config.data)).to(torch.device(device)))
    mock.patch.stopall()

    [(score, threshold)] = thresholds
    out = {"score": score.cpu(), "threshold": threshold.cpu(), "pred": output.logits.argmax(1)[0].byte().cpu()}
    if case["steps"]:
        of_steps = [torch.tensor(losses[name]).view(len(heads), -1, count) for name, count in LOSSES.items()]
        out |= zip(map("loss_{}".format, LOSSES), of_steps)
        out["loss"] = torch.cat(of_steps, dim=2).sum(2)
    return out


def _begun(head: nn.Module, level: int) -> nn.Module:
    """Fill a new head with the case's weights."""
    for name, parameter in zip(HEAD, head.parameters(), strict=True):
        parameter.data.copy_(fill(f"level{level}.{name}", tuple(parameter.shape)))
    return head
