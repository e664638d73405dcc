"""Hooks on the networks of published methods, which read the tensors of their measured cases.

Each function of ``WATCHES`` sets the hooks of a method and returns a function from the network's output to its tensors.
"""

import itertools
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from model.encode import Maps, Method
from model.encoders.encoder import Features
from model.episode import Output
from model.hdmnet.hdmnet import SHARPENED
from model.hdmnet.transformer import to_tokens
from model.hsnet import hsnet as hsnet_module
from model.parts.loss import dice
from model.sccan import attention
from model.ssp import ssp
from model.tensors.ops import foreground_mask, resize
from util.loop.score import scored_outputs

Case, Seen = dict[str, np.ndarray], dict[str, Any]
Collect = Callable[[Output], Seen]
SSP_LOSSES = {"plain": "loss_out1", "refined": "loss_out2", "self_support": "loss_self_out"}


def keep(seen: Seen, modules: dict[str, nn.Module]) -> None:
    """Have the outputs of modules kept in ``seen`` under their names, and their inputs under ``<name> in``."""
    for name, module in modules.items():
        module.register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: output, f"{name} in": inputs})
        )


def keep_aspp(seen: Seen, aspp: nn.Module) -> None:
    """Have the branches of an ASPP kept as one map, as published: that of the average at every position."""

    def hook(_: nn.Module, __: Any, output: tuple[Tensor, Tensor]) -> None:
        average, maps = output
        seen["mid_aspp"] = torch.cat([average.expand(-1, -1, *maps.shape[-2:]), maps], dim=1)

    aspp.register_forward_hook(hook)


def on_calls(module: ModuleType, name: str, note: Callable[[tuple, Any], object]) -> None:
    """Have ``note`` called with arguments and result of a module's function until ``mock.patch.stopall``."""
    function = getattr(module, name)

    def noted(*inputs: Any) -> Any:
        output = function(*inputs)
        note(inputs, output)
        return output

    mock.patch.object(module, name, noted).start()


def on_encoded(network: Method, note: Callable[[Features], Any]) -> None:
    """Have ``note`` called with the features of all images that are asked for at a time."""
    encode_images = network.encode_images

    def noted(image_b3hw: Tensor, *give: Any) -> Features:
        out = encode_images(image_b3hw, *give)
        note(out)
        return out

    network.encode_images = noted  # type: ignore[method-assign]


def on_blocks(network: Method, note: Callable[[Features], Any]) -> None:
    """Have ``note`` called with the features of a method that reads blocks, of all images that pass the encoder."""
    maps_of = network._maps

    def noted(*inputs: Any, **options: Any) -> Maps:
        maps = maps_of(*inputs, **options)
        blocks = [*maps.blocks()]
        features = Features(dict(maps._stages), {})
        for stage, block in blocks:
            features.intermediate.setdefault(stage, []).append(block)
        note(features)
        return Maps(maps._stages, blocks, maps.images, maps._base_learner)

    network._maps = noted  # type: ignore[method-assign]


def usual(output: Output) -> Seen:
    """Return what every method has: predictions and losses."""
    losses = {f"loss_{name}": loss for name, loss in output.losses.items()}
    total = sum(output.losses.values(), torch.zeros(()))
    pred = output.logits.argmax(1).to(torch.uint8)
    return {
        **scored_outputs(output),
        "logits": output.logits,
        "pred": pred,
        **losses,
        "loss": total,
        "loss_total": total,
    }


def with_ensemble(seen: Seen) -> Seen:
    """Return the inputs of an ensemble with the base learner."""
    return dict(zip(("mid_meta_logits", "mid_base_logits", "mid_gram_distance"), seen["ensemble in"]))


def shot_by_shot(maps: Iterable[Tensor], case: Case) -> list[Tensor]:
    """Return the maps of the B images of each shot, also where all shots were computed together, as on a GPU."""
    return [part for each in maps for part in each.split(len(case["query"]))]


def high_of_masked(network: Any, both_maps: list[Tensor], case: Case) -> Tensor:
    """Return stage 4 of the supports' masked f3, row b K + k, whole: a model computes the part on the object.

    ``both_maps`` are [f3; f2] of each shot.
    """
    mask = foreground_mask(torch.from_numpy(case["support_label"]).to(both_maps[0].device))
    high = []
    for k, both in enumerate(both_maps):
        f3 = both[:, : network.encoder.channels[3]]
        with torch.no_grad():
            high.append(network.encoder.run_stage(4, f3 * resize(mask[:, k], f3.shape[-2:])))
    return torch.stack(high, dim=1).flatten(0, 1)


def on_projected(network: Any, case: Case) -> Callable[[], Seen]:
    """Watch a model that masks supports before stage 4; the result returns ``mid_supp_feat`` and ``mid_supp_high``."""
    supports = list[tuple[Tensor, Tensor]]()  # [f3; f2] and x_k of each shot
    network.project_support.register_forward_hook(lambda _, inputs, output: supports.append((inputs[0], output)))

    def collect() -> Seen:
        both_maps, features = (shot_by_shot(maps, case) for maps in zip(*supports))
        out = {"mid_supp_feat": torch.stack(features, dim=1).flatten(0, 1)}
        if "mid_supp_high" in case:  # a pass of its own
            out["mid_supp_high"] = high_of_masked(network, both_maps, case)
        return out

    return collect


def bam(network: Any, case: Case) -> Collect:
    seen = Seen()
    of_supports = on_projected(network, case)
    on_encoded(network, lambda features: seen.update(mid_query_high=features.stage[4]))  # the query is encoded alone
    keep(seen, {part: getattr(network, part) for part in ("shot_weights", "fuse", "ensemble")})
    keep_aspp(seen, network.decoder.aspp)
    keep(seen, {"mid_decoder": network.decoder.refine})

    def collect(output: Output) -> Seen:
        out = seen | with_ensemble(seen) | dict(zip(("mid_query_feat", "mid_prototype", "mid_prior"), seen["fuse in"]))
        out |= of_supports()
        (out["mid_shot_distance"],), out["mid_shot_weight"] = seen["shot_weights in"], seen["shot_weights"]
        return out | {"mid_merge": seen["fuse"].relu()}

    return collect


def pfenet(network: Any, case: Case) -> Collect:
    seen = Seen()
    of_supports = on_projected(network, case)
    on_encoded(network, lambda features: seen.update(mid_query_high=features.stage[4]))  # the query is encoded alone
    enrich = network.enrich
    keep(seen, {"enrich": enrich, "mid_decoder": enrich.refine_merged, "mid_logits": enrich.head})
    keep(seen, {f"mid_scale_{i}": refine for i, refine in enumerate(enrich.refine)})

    def collect(output: Output) -> Seen:
        inputs = dict(zip(("mid_query_feat", "mid_prototype", "mid_prior"), seen["enrich in"]))
        out = seen | inputs | of_supports()
        for i, auxiliary in enumerate(enrich.auxiliary):  # evaluation leaves them out
            with torch.no_grad():
                out[f"mid_inner_{i}"] = auxiliary(out[f"mid_scale_{i}"])
        return out

    return collect


def dcama(network: Any, case: Case) -> Collect:
    seen = Seen()
    on_blocks(network, lambda features: seen.update(features=features))  # those of the query are the last
    keep(seen, {f"mid_coarse_{2 ** (int(stage) + 1)}": block for stage, block in network.aggregate.items()})
    keep(seen, {"mid_mix": network.decoder.merge["2"], "mid_mixer1": network.decoder.mixer1})
    stages = lambda: seen["features"].intermediate.items()  # noqa: E731  # known after a call
    return lambda _: seen | {f"mid_query_tap_{2 ** (stage + 1)}": maps[-1] for stage, maps in stages()}


def hdmnet(network: Any, case: Case) -> Collect:
    seen = Seen()
    parts = {"query_down": "project_query", "query_merge": "merge_query", "shot_weight": "shot_weights"}
    keep(seen, {f"mid_{name}": getattr(network, part) for name, part in parts.items()})
    each = dict[str, list[Tensor]]()  # of supports, then of the queries where both pass

    def note(name: str, module: nn.Module) -> None:
        module.register_forward_hook(lambda _, inputs, output: each.setdefault(name, []).append(output))

    note("mid_supp_down", network.project_support)
    note("mid_supp_merge", network.merge_support)
    for i, level in enumerate(network.pyramid.levels):
        note(f"level{i}", level)
    on_encoded(network, lambda features: each.setdefault("high", []).append(features.stage[4]))
    keep(seen, {"ensemble": network.ensemble})
    for i, (match, fuse) in enumerate(zip(network.match, network.fuse)):
        keep(seen, {f"match{i}": match, f"mid_fuse_level{i}": fuse})

    def collect(_: Output) -> Seen:
        out = seen | with_ensemble(seen)
        out["mid_similarity"] = seen["mid_query_merge in"][0][:, -2:] / SHARPENED
        (out["mid_shot_distance"],) = seen["mid_shot_weight in"]
        for name in ("mid_supp_down", "mid_supp_merge"):
            out[name] = torch.stack(shot_by_shot(each[name], case), dim=1).flatten(0, 1)  # row b K + k
        *support_high, query_high = shot_by_shot(each["high"], case)
        out["mid_query_high"] = network.base_learner.hidden(query_high)
        out["mid_supp_high"] = network.base_learner.hidden(torch.stack(support_high, dim=1).flatten(0, 1))
        for i in range(len(network.match)):
            *supports, query = [to_tokens(x) for x in shot_by_shot(each[f"level{i}"], case)]
            out[f"mid_query_level{i}"] = query
            out[f"mid_supp_level{i}"] = torch.cat(supports, dim=1)
            matched, out[f"mid_corr_level{i}"] = seen[f"match{i}"]
            out[f"mid_match_level{i}"] = to_tokens(matched)
        return out

    return collect


def hsnet(network: Any, case: Case) -> Collect:
    each, windows, taps = dict[str, list[Tensor]](), list[Tensor](), list[dict[int, Tensor]]()

    def note(module: nn.Module, name: str, read: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        module.register_forward_hook(lambda _, inputs, output: each.setdefault(name, []).append(read(output)))

    def keep_level(level: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            positions = inputs[0][0].shape[-2:].numel()  # of a grid
            maps = [x.sum(1, keepdim=True) for x in windows]  # (n, R R', h, w) each; outside the window all is 0
            each.setdefault(f"mid_corr_{level}", []).append(torch.cat(maps, 1) / positions)
            windows.clear()

        return hook

    on_calls(hsnet_module, "clamped_cosines", lambda _, output: windows.append(output))
    on_blocks(network, lambda x: taps.append({2 ** (level + 1): maps[-1] for level, maps in x.intermediate.items()}))
    for level, block in network.squeeze.levels.items():
        block.register_forward_hook(keep_level(level))
        note(block, f"mid_squeeze_{level}", lambda x: x.mean((2, 3)))
    note(network.squeeze.mix["3"], "mid_mix_43", lambda x: x.mean((2, 3)))
    parts = {"mid_mix_432": network.squeeze, "mid_decoder1": network.decoder.coarse}
    for name, part in {**parts, "mid_grid_logits": network.decoder.fine, "logits": network.decoder}.items():
        note(part, name)

    def collect(output: Output) -> Seen:
        out = {n: torch.stack(shot_by_shot(maps, case), dim=1).flatten(0, 1) for n, maps in each.items()}  # row b K + k
        for stride in taps[0]:
            *supports, query = shot_by_shot([tap[stride] for tap in taps], case)
            out[f"mid_query_tap_{stride}"] = query
            out[f"mid_support_tap_{stride}"] = torch.stack(supports, dim=1).flatten(0, 1)
        votes = {name: (x * len(supports)).round().to(torch.uint8) for name, x in output.maps.items()}
        return out | votes

    return collect


def sccan(network: Any, case: Case) -> Collect:
    seen = Seen()
    for name, last in (("query", "mid_prior"), ("support", "mid_support_mask")):
        names = f"mid_{name}_feat", "mid_prototype", last
        getattr(network, f"fuse_{name}").register_forward_hook(
            lambda _, inputs, output, name=name, names=names: seen.update(
                {**dict(zip(names, inputs)), f"mid_{name}_merged": output}
            )
        )
    for i, block in enumerate(network.attend.blocks):
        names = f"mid_query_block_{i}", f"mid_support_block_{i}"
        block.register_forward_hook(
            lambda _, inputs, output, names=names: seen.update(zip(names, (x.permute(0, 3, 1, 2) for x in output)))
        )
    aligned = map("mid_align_{}".format, itertools.count())
    on_calls(attention, "aligned_windows", lambda _, output: seen.update({next(aligned): output}))
    keep_aspp(seen, network.decoder.aspp)
    keep(seen, {"mid_fused": network.attend})
    keep(seen, {"mid_logits": network.decoder, "mid_decoder": network.decoder.refine})
    label = torch.from_numpy(case["query_label"])
    return lambda output: seen | {"dice": dice(output.logits, label.to(output.logits.device))}


def of_ssp(network: Any, case: Case) -> Collect:
    calls, steps = list[tuple[Tensor, ...]](), list[Any]()
    on_calls(ssp, "similarity", lambda inputs, output: calls.append((*inputs, output)))
    on_calls(ssp, "self_support", lambda inputs, output: steps.append(output))

    def collect(output: Output) -> Seen:
        rounds = len(steps) + 1
        out: Seen = {"mid_feature_q": calls[0][0], "out2": output.logits}
        out["out1"] = output.extra.get("plain", output.logits)
        for i, (_, foreground, background, logits) in enumerate(calls[:rounds]):
            out |= {f"mid_FP_{i}": foreground, f"mid_BP_{i}": background, f"mid_sim_{i}": logits}
        for i, own in enumerate(steps, 1):
            out |= {f"mid_SSFP_{i}": own.foreground, f"mid_SSBP_{i}": own.background, f"mid_ASBP_{i}": own.adaptive}
        if network.training:
            true, *shots = [call[-1] for call in calls[rounds:]]
            out["self_out"] = resize(true, case["query_label"].shape[-2:])
            out["supp_out"] = torch.cat([resize(s, case["support_label"].shape[-2:]) for s in shots])
            out |= {ours: output.losses[name] for name, ours in SSP_LOSSES.items() if name in output.losses}
            out["loss_supp_out"] = output.losses["support"] / ssp.SUPPORT_LOSS
        return out

    return collect


def symnet(network: Any, case: Case) -> Collect:
    seen, aligned = Seen(), list[Tensor]()  # the model aligns each shot, then the query

    def keep_correlation(module: nn.Module, inputs: tuple[dict[int, Tensor]]) -> None:
        for stage, maps in inputs[0].items():
            seen[f"mid_corr{stage}"] = resize(maps, inputs[0][3].shape[-2:])

    keep(seen, {"mid_query_feat": network.project_query, "mid_hyper": network.fuse_correlation})
    keep(seen, {"decoder": network.decoder})
    network.fuse_correlation.register_forward_pre_hook(keep_correlation)
    network.align.register_forward_hook(lambda _, inputs, output: aligned.append(output))

    def collect(_: Output) -> Seen:
        *shots, query = shot_by_shot(aligned, case)
        with_text = {"mid_support_text": torch.stack(shots, dim=1), "mid_query_text": query}
        return {**seen, **with_text, "mid_prior": seen["decoder in"][-1]}

    return collect


WATCHES: dict[str, Callable[[Any, Case], Collect]] = {"bam": bam, "dcama": dcama, "hdmnet": hdmnet, "hsnet": hsnet}
WATCHES |= {"pfenet": pfenet, "sccan": sccan, "ssp": of_ssp, "symnet": symnet}
