"""INSID3: its tensors of the measured cases, which begin after the encoder and go through the model's own functions."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from model.common.ops import resize_cells
from model.common.training_free import mask_on_grid
from model.insid3.segmentation import INSIDE, Patches, class_logits, positional_basis, segment
from tests.parity.watched import Case

# Steps of a case that show in the candidates or in the clusters' scores.
WITHIN = {"forward", "best_ref", "votes", "cluster_cross", "cluster_intra", "cluster_fraction"}


def insid3_case(inputs: Case, device: str = "cpu") -> Case:
    """Return every output of a case but those of ``WITHIN``, by the names of its file and in full channels.

    Keys that depend on clusters are left out where there are no candidates, those of references where all are empty.
    """

    def unit(name: str, dim: int) -> Tensor:
        return F.normalize(torch.from_numpy(inputs[name].astype(np.float32)).to(device), dim=dim)

    components, basis, singular = int(inputs["components"]), None, torch.empty(0)
    if components:
        blank = unit("blank_features", 0)
        basis, centred = positional_basis(blank, components), blank.flatten(1) - blank.flatten(1).mean(1, keepdim=True)
        singular = (centred.T @ basis).norm(dim=0).flip(0)  # of E, the largest first
    target, grid = Patches.of(unit("target_features", 0), basis), inputs["target_features"].shape[1:]
    labels = torch.from_numpy(inputs["ref_masks"]).to(device)
    given = [(Patches.of(x, basis), label == 1) for x, label in zip(unit("ref_features", 1), labels)]
    references = [(patches, mask) for patches, mask in given if mask.any()]
    [found] = segment([target], [[references]], float(inputs["tau"]), float(inputs["merge"]))
    canvas = tuple(int(n) for n in inputs["canvas"])
    mask = class_logits(found.classes, 1, canvas).argmax(0).bool()
    out = {"singular_values": singular, "mask_grid": found.classes == 1, "mask": mask}
    out["target_debiased"] = target.debiased.T.unflatten(1, grid)
    out["ref_debiased"], out["ref_mask_grid"] = torch.empty(0, *grid), torch.empty(0, *grid)
    if references:
        out["ref_debiased"] = torch.stack([patches.debiased.T.unflatten(1, grid) for patches, _ in references])
        out["ref_mask_grid"] = torch.stack([mask_on_grid(mask, grid) for _, mask in references])
    if "original" in inputs:
        original = [int(n) for n in inputs["original"]]
        out["mask_original"] = resize_cells(mask[None, None].float(), original)[0, 0] > INSIDE
    (candidates,), (scores,) = found.candidates, found.scores
    if candidates is not None:
        out["prototype"] = candidates.prototype
        out |= {name: getattr(candidates, name).unflatten(0, grid) for name in ("sim_forward", "candidates")}
    if scores is not None:
        out |= {"clusters": found.clusters.unflatten(0, grid), "seed": scores.seed[0]}
        out |= {"cluster_seed_sim": scores.seed_sim, "cluster_score": scores.score}
    return {name: tensor.cpu().numpy() for name, tensor in out.items()}
