"""The file of a method of another repository, with a metric, an optimiser and a second image of its own."""

METHOD = """
import cv2
import torch

from symnet.model.contract import Modality
from symnet.model.ssp.ssp import SSP
from symnet.util.config.registry import register


@register("modality", "grey_of_mine")
def grey(photo, class_id):
    return cv2.imread(str(photo), cv2.IMREAD_GRAYSCALE)


@register("method", "ssp_of_mine")
class OfMine(SSP):
    modalities = {"grey": Modality()}

    def support(self, maps, mask):
        assert mask.modalities["grey"].shape == mask.foreground.shape
        return super().support(maps, mask)

    def predict(self, maps, shots, episode):
        output = super().predict(maps, shots, episode)
        grey = episode.query.float().mean(1)
        assert (episode.modalities["grey"][:, 0] - grey).abs().mean() < 20  # of 255: it is of the same pixels
        output.losses = {f"mine_{name}": loss for name, loss in output.losses.items()}
        return output


@register("metric", "dice_of_mine", "Dice")
def dice(mask, true, labelled):
    return 2 * float((mask & true).sum()), float(mask.sum() + true.sum())


@register("metric", "spread_of_mine", "Spread", at_end=True)
def spread(counts):
    return float((counts.intersection / counts.union).std())


@register("optimizer", "rms_of_mine", moments=1)
def rms(groups, lr, weight_decay):
    return torch.optim.RMSprop(groups, lr, weight_decay=weight_decay)
"""
