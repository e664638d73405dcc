"""INSID3: its tensors of the measured cases, which begin after the encoder and go through the model's own functions."""

from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from model.insid3 import segmentation
from model.insid3.positions import positional_basis
from model.insid3.segmentation import INSIDE, Patches, Reference, Segmentation, class_logits
from model.kinds.training_free import mask_on_grid
from model.tensors.cells import resize_cells
from tests.parity.watched import Case, on_calls

STEPS = ("cross", "intra", "fraction", "seed_sim", "score")  # of the clusters' scores


def insid3_case(inputs: Case, device: str = "cpu") -> Case:
    """Return every output of a case, by the names of its file and in full channels.

    Keys that depend on clusters are left out where there are no candidates, those of references where all are empty.
    """

    def unit(name: str, dim: int) -> Tensor:
        return F.normalize(torch.from_numpy(inputs[name].astype(np.float32)).to(device), dim=dim)

    components = int(inputs["components"])
    basis, singular_values = None, torch.empty(0)
    if components:
        blank = unit("blank_features", 0)
        basis = positional_basis(blank, components)
        singular_values = _singular_values(blank, basis)
    target = Patches.of(unit("target_features", 0), basis)
    labels = torch.from_numpy(inputs["ref_masks"]).to(device)
    references = []
    for features, label in zip(unit("ref_features", 1), labels):
        if (label == 1).any():
            patches = Patches.of(features, basis)
            references.append(Reference(patches.debiased, mask_on_grid(label == 1, patches.grid).flatten()))

    matches = list[Tensor]()
    on_calls(segmentation, "best_matches", lambda inputs, output: matches.append(output))
    [found] = segmentation.segment([target], [[references]], float(inputs["tau"]), float(inputs["merge"]))
    mock.patch.stopall()

    out = {"singular_values": singular_values}
    out |= _masks(found, inputs)
    out |= _of_references(references, matches, target)
    out |= _of_candidates(found, target.grid)
    return {name: tensor.cpu().numpy() for name, tensor in out.items()}


def _singular_values(blank_chw: Tensor, basis_cr: Tensor) -> Tensor:
    """Return the lengths of E^T u, the largest first, (r,)."""
    features = blank_chw.flatten(1)
    centred = features - features.mean(1, keepdim=True)  # E
    return (centred.T @ basis_cr).norm(dim=0).flip(0)


def _masks(found: Segmentation, inputs: Case) -> dict[str, Tensor]:
    """Return the mask on the patches, on the canvas, and where it is asked for at the photo's size."""
    canvas = tuple(int(n) for n in inputs["canvas"])
    mask = class_logits(found.classes, 1, canvas).argmax(0).bool()
    out = {"mask_grid": found.classes == 1, "mask": mask}
    if "original" in inputs:
        original = [int(n) for n in inputs["original"]]
        out["mask_original"] = resize_cells(mask[None, None].float(), original)[0, 0] > INSIDE
    return out


def _of_references(references: list[Reference], matches: list[Tensor], target: Patches) -> dict[str, Tensor]:
    """Return features of target and references, the references' masks, and their patches most similar to each patch."""
    grid = target.grid
    nothing = torch.empty(0, *grid)
    out = {"target_debiased": target.debiased.T.unflatten(1, grid)}
    out |= dict.fromkeys(("ref_debiased", "ref_mask_grid", "best_ref"), nothing)
    if references:
        out["ref_debiased"] = torch.stack([reference.debiased.T.unflatten(1, grid) for reference in references])
        out["ref_mask_grid"] = torch.stack([reference.inside.unflatten(0, grid) for reference in references])
        out["best_ref"] = torch.stack(matches).unflatten(1, grid)
    return out


def _of_candidates(found: Segmentation, grid: torch.Size) -> dict[str, Tensor]:
    """Return the steps of the matching, and the clusters with their scores."""
    (candidates,), (scores,) = found.candidates, found.scores
    out = {}
    if candidates is not None:
        out["prototype"] = candidates.prototype
        for name in ("sim_forward", "forward", "votes", "candidates"):
            out[name] = getattr(candidates, name).unflatten(0, grid)
    if scores is not None:
        out |= {"clusters": found.clusters.unflatten(0, grid), "seed": scores.seed[0]}
        out |= {f"cluster_{name}": getattr(scores, name) for name in STEPS}
    return out
