"""What the measured cases hold of each model, read off our build of it by hooks on its modules.

``WATCH[model]`` hangs hooks on a network; ``COLLECT[model]`` names everything after its forward pass.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from model.contract import Output
from model.dcama import DCAMA
from model.ops import resize
from model.ssp import SSP, SUPPORT_LOSS
from model.symnet import SymNet

Case, Seen = dict[str, np.ndarray], dict[str, Tensor]
MODULES = {  # Sym-Net's published intermediate -> module
    "mid_query_feat": "project_query",
    "mid_hyper": "fuse_correlation",
}
SSP_LOSSES = {"plain": "loss_out1", "refined": "loss_out2", "self_support": "loss_self_out", "support": "loss_supp_out"}


# --- Sym-Net ---------------------------------------------------------------------------------------------------------


def _watch_symnet(network: SymNet, shots: int) -> Seen:
    seen: Seen = {}

    def keep(name: str):
        return lambda module, inputs, output: seen.__setitem__(name, output)

    def keep_prior(module: nn.Module, inputs: tuple, output: tuple) -> None:
        seen["mid_prior"] = inputs[-1]

    def keep_correlation(module: nn.Module, inputs: tuple, output: dict[int, Tensor]) -> None:
        for stage, maps in output.items():
            seen[f"mid_corr{stage}"] = resize(maps, output[3].shape[-2:])

    def keep_alignment(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        first = "mid_support_text" not in seen  # the model aligns the supports, then the query
        seen["mid_support_text" if first else "mid_query_text"] = output.unflatten(0, (-1, shots)) if first else output

    for name, module in MODULES.items():
        getattr(network, module).register_forward_hook(keep(name))
    network.decoder.register_forward_hook(keep_prior)
    network.correlation.register_forward_hook(keep_correlation)
    network.align.register_forward_hook(keep_alignment)
    return seen


def _collect_symnet(case: Case, network: SymNet, output: Output, seen: Seen) -> Seen:
    if not network.training:
        return seen | {"final": output.logits} | output.extra
    losses = {f"loss_{name}": value for name, value in output.losses.items()}
    return seen | losses | {"pred": output.logits.argmax(1).to(torch.uint8)}


# --- SSP -------------------------------------------------------------------------------------------------------------


def _watch_ssp(network: SSP, shots: int) -> Seen:
    seen: Seen = {"calls": [], "steps": []}
    network.similarity.register_forward_hook(lambda module, inputs, output: seen["calls"].append((*inputs, output)))
    network.self_support.register_forward_hook(lambda module, inputs, output: seen["steps"].append(output))
    return seen


def _collect_ssp(case: Case, network: SSP, output: Output, seen: Seen) -> Seen:
    rounds = len(seen["steps"]) + 1
    out: Seen = {"mid_feature_q": seen["calls"][0][0], "pred": output.logits.argmax(1).to(torch.uint8)}
    for i, (_, foreground, background, logits) in enumerate(seen["calls"][:rounds]):
        out |= {f"mid_FP_{i}": foreground, f"mid_BP_{i}": background, f"mid_sim_{i}": logits}
    for i, own in enumerate(seen["steps"], 1):
        out |= {f"mid_SSFP_{i}": own.foreground, f"mid_SSBP_{i}": own.background, f"mid_ASBP_{i}": own.adaptive}
    out["out1"] = output.extra.get("plain", output.logits)
    if network.settings.refine:
        out["out2"] = output.logits
    if network.training:
        true, *shots = [call[-1] for call in seen["calls"][rounds:]]
        out["self_out"] = resize(true, case["query_label"].shape[-2:])
        out["supp_out"] = torch.cat([resize(s, case["support_label"].shape[-2:]) for s in shots])
        weights = {"support": SUPPORT_LOSS}
        out |= {SSP_LOSSES[name]: loss / weights.get(name, 1.0) for name, loss in output.losses.items()}
        out["loss_total"] = sum(output.losses.values())
    return out


# --- DCAMA -----------------------------------------------------------------------------------------------------------


def _watch_dcama(network: DCAMA, shots: int) -> Seen:
    seen: Seen = {}

    def keep(name: str):
        return lambda module, inputs, output: seen.__setitem__(name, output)

    network.encoder.register_forward_hook(keep("features"))
    for stage, block in network.aggregate.items():
        block.register_forward_hook(keep(f"mid_coarse_{2 ** (int(stage) + 1)}"))
    network.decoder.merge["2"].register_forward_hook(keep("mid_mix"))
    network.decoder.mixer1.register_forward_hook(keep("mid_mixer1"))
    return seen


def _collect_dcama(case: Case, network: DCAMA, output: Output, seen: Seen) -> Seen:
    features, batch = seen.pop("features"), len(case["query"])
    taps = {f"mid_query_tap_{2 ** (stage + 1)}": maps[-1][:batch] for stage, maps in features.taps.items()}
    out = seen | taps | {"logits": output.logits, "pred": output.logits.argmax(1).to(torch.uint8)}
    return out | ({"loss": sum(output.losses.values())} if network.training else {})


WATCH = {"symnet": _watch_symnet, "ssp": _watch_ssp, "dcama": _watch_dcama}
COLLECT = {"symnet": _collect_symnet, "ssp": _collect_ssp, "dcama": _collect_dcama}
