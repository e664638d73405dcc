"""The part of a transformer's features that follows the patch's position (INSID3, sections 2 and 3), and its removal.

A transformer's features hold the position of a patch beside its content: patches at equal positions of two images
resemble each other. A black image has no content, so the directions in which its features vary are those of position.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.mismatch import ModelMismatch
from model.tensors.ops import in_float32
from model.tensors.transfers import to_device

KEPT = 16  # bases, one for each size of images


def positional_basis(blank_chw: Tensor, components: int) -> Tensor:
    """Return U_r (C, r) float32, the first left singular vectors of a black image's unit features about their mean.

    They are the eigenvectors of E E^T, found in float64 on the CPU; their signs have no influence. With r >= C or
    r > n - 1 all directions would be removed, and rounding would remain: ModelMismatch.
    """
    channels = len(blank_chw)
    patches = blank_chw[0].numel()
    most = min(channels, patches) - 1
    if components > most:
        reason = f"features of {channels} channels at {patches} patches have no more directions"
        raise ModelMismatch(f"model.components = {components}: {reason}; set at most {most}, or 0 to remove nothing")
    features = blank_chw.flatten(1).cpu().double()  # (C, n)
    centred = features - features.mean(1, keepdim=True)  # E
    vectors = torch.linalg.eigh(centred @ centred.T).eigenvectors  # by ascending eigenvalues
    basis = vectors[:, -components:]
    return to_device(basis.float(), blank_chw.device)


@in_float32
def debiased(x_nc: Tensor, basis_cr: Tensor | None) -> Tensor:
    """Return D(X) = unit(X - U_r U_r^T X) of unit features X (..., n, C); X itself without a basis."""
    if basis_cr is None:
        return x_nc
    positional = (x_nc @ basis_cr) @ basis_cr.T
    return F.normalize(x_nc - positional, dim=-1)


class PositionalBases:
    """The bases of an encoder for the last sizes of images."""

    def __init__(self, components: int):
        self.components = components  # r
        self._bases: dict[object, Tensor] = {}

    def of(self, size: Sequence[int], encoder: nn.Module, blank: Callable[[], Tensor]) -> Tensor | None:
        """Return the basis for images of a size (H, W), by the features (C, h, w) of a blank one; None for r = 0."""
        if self.components == 0:
            return None
        weights = tuple((tensor.data_ptr(), tensor._version) for tensor in encoder.state_dict().values())
        device = next(encoder.parameters()).device
        key = weights, tuple(size), torch.is_autocast_enabled(device.type)
        if key not in self._bases:
            if len(self._bases) == KEPT:
                del self._bases[next(iter(self._bases))]  # the oldest
            self._bases[key] = positional_basis(blank(), self.components)
        return self._bases[key]
