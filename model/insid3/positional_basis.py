"""The positional part of an encoder's features, measured on a black image, and its removal (sections 2 and 3).

A transformer's features hold the position of a patch beside its content: patches at equal positions of two images
resemble each other. A black image has no content, so the directions in which its features vary are those of position.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.common.ops import unit
from model.mismatch import Mismatch


@dataclass(frozen=True)
class PositionalBasis:
    """The leading directions of position: ``vectors`` U_r (C, r), ``singular_values`` (r,), descending; float32."""

    vectors: Tensor
    singular_values: Tensor


def check_components(components: int, channels: int, patches: int) -> None:
    """Refuse more directions than an image's features have: all would be removed, and rounding would remain.

    Raises:
        Mismatch: r >= C or r > n - 1.
    """
    if components >= channels:
        raise Mismatch(
            f"model.components = {components}: the features have {channels} channels, and as many directions would "
            f"remove all of them; set at most {channels - 1}, or 0 to remove nothing"
        )
    if components > patches - 1:
        raise Mismatch(
            f"model.components = {components}: an image of {patches} patches has {patches - 1} directions; set fewer, "
            "or take larger images"
        )


def positional_basis(blank_chw: Tensor, components: int) -> PositionalBasis:
    """Return the first r left singular vectors of a black image's unit features, centred over positions.

    They are the eigenvectors of E E^T, found in float64 on the CPU; their signs have no influence.

    Args:
        blank_chw: unit features (C, h, w) of a black image.
        components: r, at least 1.

    Raises:
        Mismatch: r >= C or r > n - 1.
    """
    channels, height, width = blank_chw.shape
    check_components(components, channels, height * width)
    centred = blank_chw.flatten(1).cpu().double()
    centred = centred - centred.mean(1, keepdim=True)  # E, (C, n)
    values, vectors = torch.linalg.eigh(centred @ centred.T)  # ascending
    leading = slice(-components, None)
    singular = values[leading].flip(0).clamp(min=0).sqrt()
    return PositionalBasis(vectors[:, leading].flip(1).float().to(blank_chw.device), singular.float())


def debiased(features_nc: Tensor, basis: PositionalBasis | None) -> Tensor:
    """Return D(X) = unit(X - U_r U_r^T X) of unit features (n, C); without a basis, the features themselves."""
    if basis is None:
        return features_nc
    return unit(features_nc - (features_nc @ basis.vectors) @ basis.vectors.T, dim=1)
