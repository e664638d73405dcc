"""Sym-Net: its tensors of the measured cases, read by hooks on its modules."""

import torch
from torch import Tensor, nn

from model.common.ops import resize
from model.episode import Output
from model.symnet.symnet import SymNet
from tests.parity.encoded import Case, Seen, keep
from util.evaluate.evaluate import scored_outputs


def watch(network: SymNet, shots: int) -> Seen:
    seen: Seen = {}
    aligned: list[Tensor] = []

    def keep_prior(module: nn.Module, inputs: tuple, output: tuple) -> None:
        seen["mid_prior"] = inputs[-1]

    def keep_correlation(module: nn.Module, inputs: tuple[dict[int, Tensor]]) -> None:
        for stage, maps in inputs[0].items():
            seen[f"mid_corr{stage}"] = resize(maps, inputs[0][3].shape[-2:])

    def keep_alignment(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        aligned.append(output)  # the model aligns each shot, then the query
        if len(aligned) == shots:
            seen["mid_support_text"] = torch.stack(aligned, dim=1)
        elif len(aligned) > shots:
            seen["mid_query_text"] = output

    keep(seen, {"mid_query_feat": network.project_query, "mid_hyper": network.fuse_correlation})
    network.decoder.register_forward_hook(keep_prior)
    network.fuse_correlation.register_forward_pre_hook(keep_correlation)
    network.align.register_forward_hook(keep_alignment)
    return seen


def collect(case: Case, network: SymNet, output: Output, seen: Seen) -> Seen:
    if not network.training:
        return seen | scored_outputs(output)
    losses = {f"loss_{name}": value for name, value in output.losses.items()}
    return seen | losses | {"pred": output.logits.argmax(1).to(torch.uint8)}
