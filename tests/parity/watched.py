"""Hooks on the networks of published methods, which read the inner values of their cases.

Each function of ``WATCHES`` sets the hooks of a method and returns a function from the network's output to the values.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import nn

from model.episode import Output
from model.hdmnet.hdmnet import SHARPENED
from model.hmnet.hmnet import SHARPENED as SHARPENED_OF_HMNET
from model.ssp import ssp
from util.loop.score import scored_outputs

Seen = dict[str, Any]
Collect = Callable[[Output], Seen]
SSP_LOSSES = {"plain": "loss_out1", "refined": "loss_out2", "self_support": "loss_self_out"}
BLOCKS_OF_HMNET = (0, 1, 6)  # of the eight


def kept(modules: dict[str, nn.Module]) -> Seen:
    """Return what will have the last outputs of modules under their names, and their inputs under ``<name> in``."""
    seen = Seen()
    for name, module in modules.items():
        module.register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: output, f"{name} in": inputs})
        )
    return seen


def on_calls(module: ModuleType, name: str, note: Callable[[tuple, Any], object]) -> None:
    """Have ``note`` called with arguments and result of a module's function until ``mock.patch.stopall``."""
    function = getattr(module, name)

    def noted(*inputs: Any) -> Any:
        output = function(*inputs)
        note(inputs, output)
        return output

    mock.patch.object(module, name, noted).start()


def usual(output: Output) -> Seen:
    """Return what every method has: predictions and losses."""
    losses = {f"loss_{name}": loss for name, loss in output.losses.items()}
    total = sum(output.losses.values(), torch.zeros(()))
    pred = output.logits.argmax(1).to(torch.uint8)
    return {**scored_outputs(output), "logits": output.logits, "pred": pred, **losses, "loss": total}


def of_ensemble(seen: Seen) -> Seen:
    """Return the inputs of an ensemble with the base learner."""
    return dict(zip(("mid_meta_logits", "mid_base_logits", "mid_gram_distance"), seen["ensemble in"]))


def bam(network: Any) -> Collect:
    seen = kept({"fuse": network.fuse, "ensemble": network.ensemble})
    return lambda _: of_ensemble(seen) | dict(zip(("mid_prototype", "mid_prior"), seen["fuse in"][1:]))


def dcama(network: Any) -> Collect:
    seen = kept({f"mid_coarse_{2 ** (int(stage) + 1)}": block for stage, block in network.aggregate.items()})
    return lambda output: seen


def hdmnet(network: Any) -> Collect:
    seen = kept({"merge_query": network.merge_query, "ensemble": network.ensemble})
    return lambda _: of_ensemble(seen) | {"mid_similarity": seen["merge_query in"][0][:, -2:] / SHARPENED}


def hsnet(network: Any) -> Collect:
    each = {"mid_mix_43": [], "logits": []}  # of the episodes of each shot
    network.squeeze.mix["3"].register_forward_hook(
        lambda _, inputs, output: each["mid_mix_43"].append(output.mean((2, 3)))
    )
    network.decoder.register_forward_hook(lambda _, inputs, output: each["logits"].append(output))

    def collect(output: Output) -> Seen:
        out = {}
        for name, maps in each.items():
            of_shots = [part for x in maps for part in x.split(len(output.logits))]  # also where all shots are at once
            out[name] = torch.stack(of_shots, dim=1).flatten(0, 1)  # row b K + k
        return out | {name: (x * len(of_shots)).round().to(torch.uint8) for name, x in output.pictures.items()}  # votes

    return collect


def pfenet(network: Any) -> Collect:
    seen = kept({"enrich": network.enrich})
    return lambda _: dict(zip(("mid_prototype", "mid_prior"), seen["enrich in"][1:]))


def sccan(network: Any) -> Collect:
    seen = kept({"fuse_query": network.fuse_query, "mid_logits": network.decoder})
    return lambda _: seen | dict(zip(("mid_prototype", "mid_prior"), seen["fuse_query in"][1:]))


def of_ssp(network: Any) -> Collect:
    calls = []  # the object's prototype and the likeness
    on_calls(ssp, "similarity", lambda inputs, output: calls.append((inputs[1], output)))

    def collect(output: Output) -> Seen:
        out = dict(zip(("mid_FP_0", "mid_sim_0"), calls[0]))
        out |= {"out1": output.extra.get("plain", output.logits), "out2": output.logits}
        if network.training:
            out |= {ours: output.losses[name] for name, ours in SSP_LOSSES.items() if name in output.losses}
            out["loss_supp_out"] = output.losses["support"] / ssp.SUPPORT_LOSS
            out["loss_total"] = sum(output.losses.values())
        return out

    return collect


def symnet(network: Any) -> Collect:
    seen = kept({"decoder": network.decoder, "mid_query_text": network.align})  # the query is aligned last
    return lambda output: seen | {"mid_prior": seen["decoder in"][-1]}


def hmnet(network: Any) -> Collect:
    parts = {part: getattr(network, part) for part in ("fuse_query", "fuse_support", "shot_weights", "ensemble")}
    blocks = {f"block{number}": network.scan.blocks[number] for number in BLOCKS_OF_HMNET}
    seen = kept({**parts, **blocks, "mid_mamba": network.scan})

    def collect(_: Output) -> Seen:
        out = seen | of_ensemble(seen)
        feature, out["mid_prototype"], prior = seen["fuse_query in"]
        out |= {"mid_query_feat": feature, "mid_prior": prior / SHARPENED_OF_HMNET}
        out["mid_supp_feat"], _, out["mid_supp_mask"] = seen["fuse_support in"]
        out |= {"mid_fuse_query": seen["fuse_query"], "mid_fuse_supp": seen["fuse_support"]}
        out |= {f"mid_b{number}_query": seen[f"block{number}"].permute(0, 3, 1, 2) for number in BLOCKS_OF_HMNET}
        out["mid_shot_distance_sorted"] = seen["shot_weights in"][0].sort(dim=1).values
        out["mid_shot_weight_by_rank"] = seen["shot_weights"]
        return out

    return collect


WATCHES: dict[str, Callable[[Any], Collect]] = {"bam": bam, "dcama": dcama, "hdmnet": hdmnet, "hmnet": hmnet}
WATCHES |= {"hsnet": hsnet, "pfenet": pfenet, "sccan": sccan, "ssp": of_ssp, "symnet": symnet}
