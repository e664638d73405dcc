"""HSNet: its tensors of the measured cases, read by hooks on its modules."""

import torch
from torch import Tensor, nn

from model.encoders.features import Features
from model.episode import Output
from model.hsnet import squeeze as functions
from model.hsnet.hsnet import HSNet
from tests.parity.encoded import Case, Seen, on_calls, on_encoded


def watch(network: HSNet, shots: int) -> Seen:
    seen: Seen = {"shots": shots, "each": []}

    def keep(name: str):
        return lambda module, inputs, output: seen.setdefault(name, []).append(output)

    def keep_support_mean(name: str):
        return lambda module, inputs, output: seen.setdefault(name, []).append(output.mean((2, 3)))

    def keep_level(level: str):
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            _, support, _ = inputs
            positions = support[0].shape[-2:].numel()
            taps = seen.pop("windows")  # (B, 1, r, r', h, w) each; outside the window all is 0
            seen.setdefault(f"mid_corr_{level}", []).append(torch.cat([t.sum((2, 3)) for t in taps], 1) / positions)

        return hook

    on_calls(functions, "clamped_cosines", lambda _, output: seen.setdefault("windows", []).append(output))
    squeeze = network.squeeze
    on_encoded(network, lambda features: seen.setdefault("taps", []).append(_last(features)))
    for level, block in squeeze.levels.items():
        block.register_forward_hook(keep_level(level))
        block.register_forward_hook(keep_support_mean(f"mid_squeeze_{level}"))
    squeeze.mix["3"].register_forward_hook(keep_support_mean("mid_mix_43"))
    squeeze.register_forward_hook(keep("mid_mix_432"))
    network.decoder.coarse.register_forward_hook(keep("mid_decoder1"))
    network.decoder.fine.register_forward_hook(keep("mid_grid_logits"))
    network.decoder.register_forward_hook(keep("logits"))
    return seen


def _last(features: Features) -> Seen:
    return {str(2 ** (level + 1)): taps[-1] for level, taps in features.intermediate.items()}


def collect(case: Case, network: HSNet, output: Output, seen: Seen) -> Seen:
    shots, query, *supports = seen["shots"], *seen["taps"]
    out = {}
    for name, each in seen.items():
        if name.startswith("mid_") or name == "logits":
            out[name] = torch.stack(each, dim=1).flatten(0, 1)  # row b K + k
    for stride, tap in query.items():
        out[f"mid_query_tap_{stride}"] = tap
        out[f"mid_support_tap_{stride}"] = torch.stack([s[stride] for s in supports], dim=1).flatten(0, 1)
    out["pred"] = output.logits.argmax(1).to(torch.uint8)
    if shots > 1:
        out["votes"] = (output.maps["votes"] * shots).round().to(torch.uint8)
    return out | ({"loss": sum(output.losses.values())} if network.training else {})
