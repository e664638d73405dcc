"""The file of a method of another repository, with a metric and an optimiser of its own."""

METHOD = """
import torch

from symnet.model.contract import register
from symnet.model.ssp.ssp import SSP
from symnet.util.loop.optimizers import register_optimizer
from symnet.util.loop.mask_metrics import register_metric


@register("ssp_of_mine")
class OfMine(SSP):
    def predict(self, maps, shots, episode):
        output = super().predict(maps, shots, episode)
        output.losses = {f"mine_{name}": loss for name, loss in output.losses.items()}
        return output


@register_metric("dice_of_mine", "Dice")
def dice(mask, true, labelled):
    return 2 * float((mask & true).sum()), float(mask.sum() + true.sum())


@register_optimizer("rms_of_mine", moments=1)
def rms(groups, lr, weight_decay):
    return torch.optim.RMSprop(groups, lr, weight_decay=weight_decay)
"""
