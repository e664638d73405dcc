"""BAM: its tensors of the measured cases, read by hooks on its modules."""

import torch
from torch import Tensor, nn

from model.bam.bam import BAM
from model.common.ops import foreground_mask, resize
from model.episode import Output
from tests.parity.encoded import Case, Seen, keep, on_encoded
from util.evaluate.evaluate import scored_outputs


def watch(network: BAM, shots: int) -> Seen:
    seen: Seen = {"supports": []}

    def keep_support(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        seen["supports"].append((inputs[0], output))  # [f3; f2] and x_k of one shot

    network.project_support.register_forward_hook(keep_support)
    on_encoded(network, lambda features: seen.update(encoder=features))
    keep(seen, {part: getattr(network, part) for part in ("project_query", "shot_weights", "fuse", "ensemble")})
    keep(seen, {"mid_aspp": network.decoder.aspp, "mid_decoder": network.decoder.refine})
    return seen


def collect(case: Case, network: BAM, output: Output, seen: Seen) -> Seen:
    out = {name: value for name, value in seen.items() if name.startswith("mid_") and not name.endswith(" in")}
    mask = foreground_mask(torch.from_numpy(case["support_label"]).to(output.logits.device))
    features, high = [], []
    for k, (both, feature) in enumerate(seen["supports"]):
        f3 = both[:, : network.encoder.channels[3]]
        with torch.no_grad():  # the whole map: the model computes the part on the object
            high.append(network.encoder.run_stage(4, f3 * resize(mask[:, k], f3.shape[-2:])))
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
