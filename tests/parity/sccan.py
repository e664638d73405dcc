"""SCCAN: its tensors of the measured cases, read by hooks on its modules."""

import itertools

import torch
from torch import Tensor, nn

from model.common.loss import dice
from model.episode import Output
from model.sccan import attention
from model.sccan.sccan import SCCAN
from tests.parity.encoded import Case, Seen, keep, on_calls


def watch(network: SCCAN, shots: int) -> Seen:
    seen: Seen = {}

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
        block.register_forward_hook(keep_block(i))
    aligned = map("mid_align_{}".format, itertools.count())
    on_calls(attention, "aligned_windows", lambda _, output: seen.update({next(aligned): output}))
    decoder = network.decoder
    keep(seen, {"mid_fused": network.attend, "mid_aspp": decoder.aspp})
    keep(seen, {"mid_logits": decoder, "mid_decoder": decoder.refine})
    return seen


def collect(case: Case, network: SCCAN, output: Output, seen: Seen) -> Seen:
    out = seen | {"final": output.logits, "pred": output.logits.argmax(1).to(torch.uint8)}
    if network.training:
        label = torch.from_numpy(case["query_label"]).to(output.logits.device)
        out |= {"loss_main": output.losses["main"], "dice": dice(output.logits, label)}
    return out
