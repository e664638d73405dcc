"""DCAMA: its tensors of the measured cases, read by hooks on its modules."""

import torch

from model.dcama.dcama import DCAMA
from model.episode import Output
from tests.parity.encoded import Case, Seen, keep, on_encoded


def watch(network: DCAMA, shots: int) -> Seen:
    seen: Seen = {}

    on_encoded(network, lambda features: seen.update(features=features))
    keep(seen, {f"mid_coarse_{2 ** (int(stage) + 1)}": block for stage, block in network.aggregate.items()})
    keep(seen, {"mid_mix": network.decoder.merge["2"], "mid_mixer1": network.decoder.mixer1})
    return seen


def collect(case: Case, network: DCAMA, output: Output, seen: Seen) -> Seen:
    features, batch = seen.pop("features"), len(case["query"])
    intermediate = {
        f"mid_query_tap_{2 ** (stage + 1)}": maps[-1][:batch] for stage, maps in features.intermediate.items()
    }
    out = seen | intermediate | {"logits": output.logits, "pred": output.logits.argmax(1).to(torch.uint8)}
    return out | ({"loss": sum(output.losses.values())} if network.training else {})
