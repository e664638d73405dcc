"""Steps of a test beyond the network's one pass: each support alone, and the edges of the photo."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from model.episode import Episode, EpisodeOfOriginalSizes, Output
from util.config.settings import EDGES, MASKS
from util.evaluate.evaluate import scored_outputs
from util.evaluate.refine import refined_photos
from util.evaluate.schema import BASE, FINAL, NETWORK
from util.run.network import predicted_by


class Steps(nn.Module):
    """Steps around a network; the tester calls it like a network, whose features it keeps."""

    forward_classes: Callable[[Sequence[Episode]], Output]  # for several classes that compete

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.encode = getattr(network, "encode", None)
        self.supports_enter_as_queries = getattr(network, "supports_enter_as_queries", False)

    def compile(self, *args: object, **kwargs: object) -> None:
        """Compile the network, as ``nn.Module.compile`` does; the steps stay Python."""
        self.network.compile(*args, **kwargs)

    def forward(self, episode: Episode) -> Output:
        """Return the output for one class per episode."""
        return self.forward_classes([episode])


class MeanOfMasks(Steps):
    """A one-shot network that sees every support alone; ``maps``, which are only displayed, are the first one's.

    The average is of probabilities, the softmax of every output over its classes, the base learner's included. The
    result is their logarithm, because an ``Output`` holds logits: of a single support it differs from the network's by
    a constant per pixel, which does not affect ``argmax``.
    """

    def forward_classes(self, episodes: Sequence[Episode]) -> Output:
        """Return the averaged outputs."""
        outputs = [predicted_by(self.network, ways) for ways in zip(*map(_one_by_one, episodes))]
        least = torch.finfo(torch.float32).tiny  # the smallest probability whose logarithm is finite
        averages = dict[str, Tensor]()
        for name in scored_outputs(outputs[0]):
            probabilities = [scored_outputs(output)[name].float().softmax(1) for output in outputs]
            averages[name] = torch.stack(probabilities).mean(0).clamp_min(least).log()
        return Output(averages.pop(FINAL), averages.pop(BASE, None), averages, outputs[0].maps)


def _one_by_one(episode: Episode) -> Iterator[Episode]:
    """Yield the one-shot episodes of B K-shot episodes, support by support."""
    listed = isinstance(episode, EpisodeOfOriginalSizes)
    shots = len(episode.support) if listed else episode.support.shape[1]
    for k in range(shots):
        shot = slice(k, k + 1) if listed else (slice(None), slice(k, k + 1))
        yield replace(
            episode,
            support=episode.support[shot],
            support_label=episode.support_label[shot],
            shots=None if episode.shots is None else episode.shots[k::shots],
        )


class WithEdges(Steps):
    """A network whose masks get the edges of the query's photo; ``extra`` has its own logits as ``network``."""

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


def with_steps(network: nn.Module, steps: Sequence[str]) -> nn.Module:
    """Return a network with the steps of ``TestSettings.steps``, or the network itself."""
    if MASKS in steps:
        network = MeanOfMasks(network)
    return WithEdges(network) if EDGES in steps else network
