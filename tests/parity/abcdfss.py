"""ABCDFSS: its values of the measured cases, whose heads start from given weights, and whose shears are given too."""

from unittest import mock

import torch
from torch import Tensor, nn

from model.abcdfss import abcdfss
from model.encoders.layouts import load_encoder
from model.episode import Episode
from tests.helpers.read import config_of
from tests.helpers.skip_init import skip_init
from tests.parity.compare import Arrays
from tests.parity.drawn.weights import fill
from tests.parity.watched import on_calls
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
        output = network(_episode(case).to(torch.device(device)))
    mock.patch.stopall()

    [(score, threshold)] = thresholds
    out = {"score": score, "threshold": threshold, "pred": output.logits.argmax(1)[0].to(torch.uint8)}
    if case["steps"]:
        of_steps = {
            f"loss_{name}": torch.tensor(losses[name]).view(len(heads), -1, count) for name, count in LOSSES.items()
        }
        out |= of_steps | {"loss": torch.cat(list(of_steps.values()), dim=2).sum(2)}
    return {name: tensor.cpu() for name, tensor in out.items()}


def _begun(head: nn.Module, level: int) -> nn.Module:
    """Fill a new head with the case's weights."""
    for name, parameter in zip(HEAD, head.parameters(), strict=True):
        parameter.data.copy_(fill(f"level{level}.{name}", tuple(parameter.shape)))
    return head


def _episode(case: Arrays) -> Episode:
    return Episode(
        query=torch.from_numpy(case["query"]).permute(0, 3, 1, 2).contiguous(),
        query_label=torch.from_numpy(case["query_label"]),
        support=torch.from_numpy(case["support"]).permute(0, 1, 4, 2, 3).contiguous(),
        support_label=torch.from_numpy(case["support_label"]),
        class_id=torch.from_numpy(case["class_id"]),
        base_id=torch.zeros(1, dtype=torch.int64),
        number=torch.zeros(1, dtype=torch.int64),
    )
