"""INSID3: its tensors of the measured cases, which begin after the encoder and go through the model's own functions."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from model.common.ops import resize_cells
from model.insid3.segmentation import INSIDE, Reference, Target, class_logits, positional_basis, segment
from tests.parity.encoded import Case


def insid3_case(inputs: Case, device: str = "cpu") -> Case:
    """Return every output of a case, by the names of its file and in full channels.

    Keys that depend on clusters are left out where there are no candidates, those of references where all are empty.
    """
    components = int(inputs["components"])
    target_features, ref_features = (
        _unit(inputs[name], dim, device) for name, dim in (("target_features", 0), ("ref_features", 1))
    )
    basis = positional_basis(_unit(inputs["blank_features"], 0, device), components) if components else None
    target = Target.of(target_features, basis)
    labels = torch.from_numpy(inputs["ref_masks"]).to(device)
    given = [Reference.of(features, label == 1, basis) for features, label in zip(ref_features, labels)]
    references = [one for one in given if one.mask.any()]
    [found] = segment([target], [[references]], float(inputs["tau"]), float(inputs["merge"]))

    def on_grid(x_n: Tensor) -> Tensor:
        return x_n.unflatten(0, target.grid)

    def per_reference(tensors: list[Tensor]) -> Tensor:  # of (..., n) each
        grid = ref_features.shape[2:]
        return torch.stack(tensors).unflatten(-1, grid) if tensors else torch.empty(0, *grid)

    canvas = tuple(int(n) for n in inputs["canvas"])
    mask = class_logits(found.classes, 1, canvas).argmax(0).bool()
    out = {
        "singular_values": torch.empty(0) if basis is None else basis.singular_values,
        "target_debiased": target.debiased.T.unflatten(1, target.grid),
        "ref_debiased": per_reference([r.features.T for r in references]),
        "ref_mask_grid": per_reference([r.mask for r in references]),
        "mask_grid": found.classes == 1,
        "mask": mask,
    }
    if "original" in inputs:
        out["mask_original"] = (
            resize_cells(mask[None, None].float(), [int(n) for n in inputs["original"]])[0, 0] > INSIDE
        )
    (candidates,), (scores,) = found.candidates, found.scores
    if candidates is not None:
        out["prototype"] = candidates.prototype
        out["best_ref"] = per_reference(candidates.best_ref)
        for name in ("sim_forward", "forward", "votes", "candidates"):
            out[name] = on_grid(getattr(candidates, name))
    if scores is not None:
        out["clusters"], out["seed"] = on_grid(found.clusters), scores.seed[0]
        for name in ("seed_sim", "cross", "intra", "fraction", "score"):
            out[f"cluster_{name}"] = getattr(scores, name)
    return {name: tensor.cpu().numpy() for name, tensor in out.items()}


def _unit(features: np.ndarray, dim: int, device: str) -> Tensor:
    return F.normalize(torch.from_numpy(features.astype(np.float32)).to(device), dim=dim)
