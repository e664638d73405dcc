"""HDMNet: its tensors of the measured cases, read by hooks on its modules."""

import torch

from model.episode import Output
from model.hdmnet.hdmnet import SHARPENED, HDMNet
from model.hdmnet.transformer import to_tokens
from tests.parity.encoded import Case, Seen, keep, on_encoded
from util.evaluate.evaluate import scored_outputs


def watch(network: HDMNet, shots: int) -> Seen:
    seen: Seen = {}

    parts = {"query_down": "project_query", "supp_down": "project_support", "supp_merge": "merge_support"}
    parts |= {"query_merge": "merge_query", "shot_weight": "shot_weights"}
    keep(seen, {f"mid_{name}": getattr(network, part) for name, part in parts.items()})
    on_encoded(network, lambda features: seen.update(encoder=features))
    keep(seen, {"pyramid": network.pyramid, "ensemble": network.ensemble})
    for i, (match, fuse) in enumerate(zip(network.match, network.fuse)):
        keep(seen, {f"match{i}": match, f"mid_fuse_level{i}": fuse})
    return seen


def collect(case: Case, network: HDMNet, output: Output, seen: Seen) -> Seen:
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
