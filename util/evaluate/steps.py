"""The step of a test beyond the network's one pass: the edges of the photo (``test.edges``)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from model.episode import Episode, Output
from util.evaluate.refine import refined_photos
from util.evaluate.schema import NETWORK
from util.run.network import predicted_by


class WithEdges(nn.Module):
    """A network whose masks get the edges of the query's photo; ``extra`` has its own logits as ``network``.

    The tester calls it like a network, whose features it keeps.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.encode = getattr(network, "encode", None)
        self.supports_enter_as_queries = getattr(network, "supports_enter_as_queries", False)

    def compile(self, *args: object, **kwargs: object) -> None:
        """Compile the network, as ``nn.Module.compile`` does; the step stays Python."""
        self.network.compile(*args, **kwargs)

    def forward(self, episode: Episode) -> Output:
        """Return the output for one class per episode."""
        return self.forward_classes([episode])

    def forward_classes(self, episodes: Sequence[Episode]) -> Output:
        """Return the output for several classes that compete, each of which gets edges of its own."""
        output = predicted_by(self.network, episodes)
        logits = output.logits.float()
        background = logits[:, :1]
        photos = episodes[0].query.permute(0, 2, 3, 1).byte().cpu().numpy()
        margins = (logits[:, 1:] - background).cpu().numpy()
        refined_margins = torch.from_numpy(np.stack(refined_photos(photos, margins))).to(logits.device)
        refined_logits = torch.cat([torch.zeros_like(background), refined_margins], dim=1)
        return replace(output, logits=refined_logits, extra={**output.extra, NETWORK: logits})
