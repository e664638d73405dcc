"""INSID3: its values of the measured cases, which begin after the encoder and go through the model's own functions."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from model.insid3.positions import positional_basis
from model.insid3.segmentation import INSIDE, Patches, Reference, Segmentation, class_logits, segment
from model.kinds.training_free import mask_on_grid
from model.tensors.cells import resize_cells
from tests.parity.compare import Arrays

STEPS = ("cross", "intra", "fraction", "seed_sim", "score")  # of the clusters' scores
CANDIDATES = ("sim_forward", "forward", "votes", "candidates")
BOUNDS = {"mask_grid": 0, "mask": 1e-3}  # bilinear values of 1/2


def insid3_case(inputs: Arrays, device: str = "cpu") -> dict[str, Tensor]:
    """Return candidates, clusters with their scores, and masks of a case, by the names of its file.

    What depends on clusters is left out where there are no candidates, what depends on references where all are empty.
    """

    def unit(name: str, dim: int) -> Tensor:
        return F.normalize(torch.from_numpy(inputs[name].astype(np.float32)).to(device), dim=dim)

    components = int(inputs["components"])
    basis = positional_basis(unit("blank_features", 0), components) if components else None
    target = Patches.of(unit("target_features", 0), basis)
    labels = torch.from_numpy(inputs["ref_masks"]).to(device)
    references = []
    for features, label in zip(unit("ref_features", 1), labels):
        if (label == 1).any():
            patches = Patches.of(features, basis)
            references.append(Reference(patches.debiased, mask_on_grid(label == 1, patches.grid).flatten()))
    [found] = segment([target], [[references]], float(inputs["tau"]), float(inputs["merge"]))
    mask = class_logits(found.classes, 1, tuple(int(n) for n in inputs["canvas"])).argmax(0).bool()
    out = {"mask_grid": found.classes == 1, "mask": mask}
    if "original" in inputs:
        original = [int(n) for n in inputs["original"]]
        out["mask_original"] = resize_cells(mask[None, None].float(), original)[0, 0] > INSIDE
    out |= _of_candidates(found, target.grid)
    return {name: tensor.cpu() for name, tensor in out.items()}


def _of_candidates(found: Segmentation, grid: torch.Size) -> dict[str, Tensor]:
    """Return the steps of the matching, and the clusters with their scores."""
    (candidates,), (scores,) = found.candidates, found.scores
    out = {}
    if candidates is not None:
        out |= {name: getattr(candidates, name).unflatten(0, grid) for name in CANDIDATES}
    if scores is not None:
        out |= {"clusters": found.clusters.unflatten(0, grid), "seed": scores.seed[0]}
        out |= {f"cluster_{name}": getattr(scores, name) for name in STEPS}
    return out
