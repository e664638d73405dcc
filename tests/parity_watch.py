"""The tensors of the measured cases, read from our networks by hooks on their modules.

``WATCH[model]`` hangs hooks on a network; ``COLLECT[model]`` names everything after its forward pass.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from model.bam.bam import BAM
from model.bam.masked_support import run_stage
from model.common.loss import dice
from model.common.ops import foreground_mask, resize
from model.contract import Output
from model.dcama.dcama import DCAMA
from model.encoders.features import Features
from model.hdmnet.hdmnet import SHARPENED, HDMNet
from model.hdmnet.token_pyramid import to_tokens
from model.hsnet.hsnet import HSNet
from model.sccan.sccan import SCCAN
from model.ssp.ssp import SSP, SUPPORT_LOSS
from model.symnet.symnet import SymNet
from util.engine.evaluation import scored_outputs

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

    def keep_correlation(module: nn.Module, inputs: tuple[dict[int, Tensor]]) -> None:
        for stage, maps in inputs[0].items():
            seen[f"mid_corr{stage}"] = resize(maps, inputs[0][3].shape[-2:])

    def keep_alignment(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        first = "mid_support_text" not in seen  # the model aligns the supports, then the query
        seen["mid_support_text" if first else "mid_query_text"] = output.unflatten(0, (-1, shots)) if first else output

    for name, module in MODULES.items():
        getattr(network, module).register_forward_hook(keep(name))
    network.decoder.register_forward_hook(keep_prior)
    network.fuse_correlation.register_forward_pre_hook(keep_correlation)
    network.align.register_forward_hook(keep_alignment)
    return seen


def _collect_symnet(case: Case, network: SymNet, output: Output, seen: Seen) -> Seen:
    if not network.training:
        return seen | scored_outputs(output)
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
    intermediate = {
        f"mid_query_tap_{2 ** (stage + 1)}": maps[-1][:batch] for stage, maps in features.intermediate.items()
    }
    out = seen | intermediate | {"logits": output.logits, "pred": output.logits.argmax(1).to(torch.uint8)}
    return out | ({"loss": sum(output.losses.values())} if network.training else {})


# --- SCCAN -----------------------------------------------------------------------------------------------------------


def _watch_sccan(network: SCCAN, shots: int) -> Seen:
    seen: Seen = {}

    def keep(name: str):
        return lambda module, inputs, output: seen.__setitem__(name, output)

    def keep_features(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        name = "query" if module is network.fuse_query else "support"
        last = {"query": "mid_prior", "support": "mid_support_mask"}[name]
        seen.update({f"mid_{name}_feat": inputs[0], "mid_prototype": inputs[1], last: inputs[2]})
        seen[f"mid_{name}_merged"] = output

    def keep_block(i: int):
        def hook(module: nn.Module, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
            for name, tokens in zip(("query", "support"), output):
                seen[f"mid_{name}_block_{i}"] = tokens.permute(0, 3, 1, 2)

        return hook

    for fuse in (network.fuse_query, network.fuse_support):
        fuse.register_forward_hook(keep_features)
    for i, block in enumerate(network.attend.blocks):
        block.align.register_forward_hook(keep(f"mid_align_{i}"))
        block.register_forward_hook(keep_block(i))
    network.attend.register_forward_hook(keep("mid_fused"))
    network.decoder.aspp.register_forward_hook(keep("mid_aspp"))
    network.decoder.register_forward_hook(keep("mid_logits"))
    network.decoder.refine.register_forward_hook(keep("mid_decoder"))
    return seen


def _collect_sccan(case: Case, network: SCCAN, output: Output, seen: Seen) -> Seen:
    out = seen | {"final": output.logits, "pred": output.logits.argmax(1).to(torch.uint8)}
    if network.training:
        label = torch.from_numpy(case["query_label"])
        out |= {"loss_main": output.losses["main"], "dice": dice(output.logits, label)}
    return out


# --- HDMNet ----------------------------------------------------------------------------------------------------------


def _watch_hdmnet(network: HDMNet, shots: int) -> Seen:
    seen: Seen = {}

    def keep(name: str):
        return lambda module, inputs, output: seen.update({name: output, f"{name} in": inputs})

    parts = {"query_down": "project_query", "supp_down": "project_support", "supp_merge": "merge_support"}
    for name, part in {**parts, "query_merge": "merge_query", "shot_weight": "shot_weights"}.items():
        getattr(network, part).register_forward_hook(keep(f"mid_{name}"))
    for part in ("encoder", "pyramid", "ensemble"):
        getattr(network, part).register_forward_hook(keep(part))
    for i, (match, fuse) in enumerate(zip(network.match, network.fuse)):
        match.register_forward_hook(keep(f"match{i}"))
        fuse.register_forward_hook(keep(f"mid_fuse_level{i}"))
    return seen


def _collect_hdmnet(case: Case, network: HDMNet, output: Output, seen: Seen) -> Seen:
    batch = len(case["support"])
    out = {name: value for name, value in seen.items() if name.startswith("mid_") and not name.endswith(" in")}
    out["mid_similarity"] = seen["mid_query_merge in"][0][:, -2:] / SHARPENED
    (out["mid_shot_distance"],) = seen["mid_shot_weight in"]
    out["mid_meta_logits"], out["mid_base_logits"], out["mid_gram_distance"] = seen["ensemble in"][:3]
    high = network.base_learner.hidden(seen["encoder"].stage[4])
    out["mid_query_high"], out["mid_supp_high"] = high[:batch], high[batch:]
    for i, level in enumerate(to_tokens(x) for x in seen["pyramid"]):
        out[f"mid_query_level{i}"] = level[:batch]
        out[f"mid_supp_level{i}"] = level[batch:].reshape(batch, -1, level.shape[2])
        matched, out[f"mid_corr_level{i}"] = seen[f"match{i}"]
        out[f"mid_match_level{i}"] = to_tokens(matched)
    if network.training:
        losses = {f"loss_{name}": value for name, value in output.losses.items()}
        return out | losses | {"pred": output.logits.argmax(1).to(torch.uint8)}
    return out | scored_outputs(output)


# --- BAM -------------------------------------------------------------------------------------------------------------


def _watch_bam(network: BAM, shots: int) -> Seen:
    seen: Seen = {"supports": []}

    def keep(name: str):
        return lambda module, inputs, output: seen.update({name: output, f"{name} in": inputs})

    def keep_support(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        seen["supports"].append((inputs[0], output))  # [f3; f2] and x_k of one shot

    network.project_support.register_forward_hook(keep_support)
    for part in ("encoder", "project_query", "shot_weights", "fuse", "ensemble"):
        getattr(network, part).register_forward_hook(keep(part))
    network.decoder.aspp.register_forward_hook(keep("mid_aspp"))
    network.decoder.refine.register_forward_hook(keep("mid_decoder"))
    return seen


def _collect_bam(case: Case, network: BAM, output: Output, seen: Seen) -> Seen:
    out = {name: value for name, value in seen.items() if name.startswith("mid_") and not name.endswith(" in")}
    mask = foreground_mask(torch.from_numpy(case["support_label"]))
    features, high = [], []
    for k, (both, feature) in enumerate(seen["supports"]):
        f3 = both[:, : network.encoder.channels[3]]
        with torch.no_grad():  # the whole map: the model computes the part on the object
            high.append(run_stage(network.encoder, 4, f3 * resize(mask[:, k], f3.shape[-2:])))
        features.append(feature)
    out["mid_supp_feat"], out["mid_supp_high"] = (torch.stack(x, dim=1).flatten(0, 1) for x in (features, high))
    (out["mid_shot_distance"],), out["mid_shot_weight"] = seen["shot_weights in"], seen["shot_weights"]
    out["mid_query_feat"], out["mid_prototype"], out["mid_prior"] = seen["fuse in"]
    out["mid_query_high"] = seen["encoder"].stage[4]
    out["mid_merge"] = seen["fuse"].relu()
    out["mid_meta_logits"], out["mid_base_logits"], out["mid_gram_distance"] = seen["ensemble in"][:3]
    out["pred"] = output.logits.argmax(1).to(torch.uint8)
    if network.training:
        return out | {f"loss_{name}": value for name, value in output.losses.items()}
    return out | scored_outputs(output)


# --- HSNet -----------------------------------------------------------------------------------------------------------


def _watch_hsnet(network: HSNet, shots: int) -> Seen:
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

    squeeze = network.squeeze
    network.encoder.register_forward_hook(
        lambda module, inputs, output: seen.setdefault("taps", []).append(_last(output))
    )
    for level, block in squeeze.levels.items():
        block.correlate.register_forward_hook(keep("windows"))
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


def _collect_hsnet(case: Case, network: HSNet, output: Output, seen: Seen) -> Seen:
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


WATCH = {
    "symnet": _watch_symnet,
    "ssp": _watch_ssp,
    "dcama": _watch_dcama,
    "hdmnet": _watch_hdmnet,
    "sccan": _watch_sccan,
    "hsnet": _watch_hsnet,
    "bam": _watch_bam,
}
COLLECT = {
    "symnet": _collect_symnet,
    "ssp": _collect_ssp,
    "dcama": _collect_dcama,
    "hdmnet": _collect_hdmnet,
    "sccan": _collect_sccan,
    "hsnet": _collect_hsnet,
    "bam": _collect_bam,
}
