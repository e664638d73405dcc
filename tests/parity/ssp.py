"""SSP: its tensors of the measured cases, read from the calls of its functions."""

import torch

from model.common.ops import resize
from model.episode import Output
from model.ssp import ssp
from model.ssp.ssp import SSP, SUPPORT_LOSS
from tests.parity.encoded import Case, Seen, on_calls

SSP_LOSSES = {"plain": "loss_out1", "refined": "loss_out2", "self_support": "loss_self_out", "support": "loss_supp_out"}


def watch(network: SSP, shots: int) -> Seen:
    seen: Seen = {"calls": [], "steps": []}
    on_calls(ssp, "similarity", lambda inputs, output: seen["calls"].append((*inputs, output)))
    on_calls(ssp, "self_support", lambda inputs, output: seen["steps"].append(output))
    return seen


def collect(case: Case, network: SSP, output: Output, seen: Seen) -> Seen:
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
