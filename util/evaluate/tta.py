"""Steps of a test beyond one pass: an episode mirrored, at other sizes, each support alone; adaptation; edges.

An average is of probabilities: the softmax of every output over its classes, the base learner's included, brought back
to the query's size and unmirrored. The result is their logarithm, because an ``Output`` holds logits: it differs from
the logits of a single pass by a constant per pixel, which does not affect ``argmax``. If a network's outputs are scores
of a narrow range, such as cosines, their softmax is flat, and the average is close to that of the scores themselves.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model.common.adaptation import NotLearnt, adaptable, fit
from model.common.ops import in_float32, resize
from model.contract import FewShotModel
from model.episode import Episode, EpisodeOfOriginalSizes, Output
from util.config.settings import MASKS, PLAIN_SCALES
from util.data.images.views import ORIGINAL, View
from util.errors import UserError
from util.evaluate.evaluate import scored_outputs
from util.evaluate.refine import refined_photos
from util.report.schema import BASE, FINAL, NETWORK
from util.runtime.context import RunContext
from util.runtime.input_size import real_scales
from util.runtime.network import build_model, predicted_by

log = logging.getLogger("symnet")


@dataclass(frozen=True)
class TtaView:
    """One view of an image: resized by a factor, then perhaps mirrored left-right."""

    factor: float
    mirrored: bool

    def image(self, image: Tensor) -> Tensor:
        """Return the view of images (..., 3, H, W), float32 if they are resized."""
        size = [max(round(self.factor * side), 1) for side in image.shape[-2:]]
        if size != list(image.shape[-2:]):
            image = resize(image.flatten(0, -4).float(), size).unflatten(0, image.shape[:-3])
        return image.flip(-1) if self.mirrored else image

    def label(self, label: Tensor) -> Tensor:
        """Return the view of label maps (..., H, W): nearest pixels, on the grid that ``image`` interpolates on."""
        for axis, side in ((-2, label.shape[-2]), (-1, label.shape[-1])):
            places = torch.linspace(0, side - 1, max(round(self.factor * side), 1), device=label.device)
            label = label.index_select(axis, places.round().long())
        return label.flip(-1) if self.mirrored else label

    @in_float32
    def back(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        """Return the probabilities (B, C, *size) of the query's pixels from the logits (B, C, H, W) of the view."""
        probability = logits.softmax(1)
        return resize(probability.flip(-1) if self.mirrored else probability, size)


@dataclass(frozen=True)
class CachedByView:
    """The cached features of an image in every view."""

    by_view: list[Any]  # ``CachedFeatures``

    @property
    def nbytes(self) -> int:
        """The size of all of them in bytes."""
        return sum(features.nbytes for features in self.by_view)


class Steps(nn.Module):
    """Steps around networks of the same weights; the tester calls it like a network."""

    forward_classes: Callable[[Sequence[Episode]], Output]  # for several classes that compete

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.masks_supports = getattr(networks[0], "masks_supports", False)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile each network, as ``nn.Module.compile`` does; the steps stay Python."""
        for network in self.networks:
            network.compile(*args, **kwargs)

    def forward(self, episode: Episode) -> Output:
        """Return the output for one class per episode."""
        return self.forward_classes([episode])


class TestTimeAugmentation(Steps):
    """Networks, one per factor, that see an episode in turn: ``maps``, which are only displayed, are the first pass's.

    A factor is relative to the size of the images that ``forward`` gets, and its network is built for that size. With
    ``flip`` every network also gets its images mirrored; with ``by_support`` they take one shot, and every support
    has passes of its own.
    """

    __test__ = False  # not a test case, whatever pytest thinks of the name

    def __init__(self, networks: Sequence[FewShotModel], factors: Sequence[float], *, flip: bool, by_support: bool):
        super().__init__(networks)
        self.by_support = by_support
        self.views: list[tuple[FewShotModel, TtaView]] = []
        for network, factor in zip(networks, factors):
            self.views.append((network, TtaView(factor, mirrored=False)))
            if flip:
                self.views.append((network, TtaView(factor, mirrored=True)))

    def forward_classes(self, episodes: Sequence[Episode]) -> Output:
        """Return the averaged outputs at the query's size."""
        size = episodes[0].query.shape[-2:]
        sums: dict[str, Tensor] = {}
        maps: dict[str, Tensor] = {}
        passes = 0
        for number, (network, view) in enumerate(self.views):
            for episodes_of_pass in self._passes([_in_view(episode, view, number) for episode in episodes]):
                output = predicted_by(network, episodes_of_pass)
                if passes == 0:
                    maps = output.maps
                passes += 1
                for name, logits in scored_outputs(output).items():
                    sums[name] = sums.get(name, 0) + view.back(logits, size)
        least = torch.finfo(torch.float32).tiny  # the smallest probability whose logarithm is finite
        averages = {name: (total / passes).clamp_min(least).log() for name, total in sums.items()}
        return Output(averages.pop(FINAL), averages.pop(BASE, None), averages, maps)

    def _passes(self, episodes: Sequence[Episode]) -> Iterable[Sequence[Episode]]:
        """Return the episodes of each pass: all supports at once, or support by support."""
        return zip(*map(_one_by_one, episodes)) if self.by_support else [episodes]

    def cache_support(self, support: Tensor, support_label: Tensor) -> CachedByView | None:
        """Return the cached features of a support (1, 1, 3, H, W) with its label (1, 1, H, W), None for none."""
        by_view = [
            network.cache_support(view.image(support), view.label(support_label)) for network, view in self.views
        ]
        return CachedByView(by_view) if all(features is not None for features in by_view) else None

    def cache_query(self, query: Tensor) -> CachedByView | None:
        """Return the cached features of a query (1, 3, H, W), None if there are none."""
        by_view = [network.cache_query(view.image(query)) for network, view in self.views]
        return CachedByView(by_view) if all(features is not None for features in by_view) else None


def _in_view(episode: Episode, view: TtaView, number: int) -> Episode:
    """Return an episode in the view of a number, query and supports alike, with the cached features of this view."""
    changes: dict[str, Callable] = {
        **dict.fromkeys(("query", "support"), view.image),
        **dict.fromkeys(("query_label", "support_label", "query_base_label"), view.label),
        **dict.fromkeys(("cached_support", "cached_query"), lambda features: features.by_view[number]),
    }
    changed: dict[str, Any] = {}
    for name, change in changes.items():
        value = getattr(episode, name)
        if isinstance(value, list):
            changed[name] = [change(item) for item in value]
        elif value is not None:
            changed[name] = change(value)
    return replace(episode, **changed)


def _one_by_one(episode: Episode) -> Iterator[Episode]:
    """Yield the one-shot episodes of B K-shot episodes, support by support."""
    listed = isinstance(episode, EpisodeOfOriginalSizes)
    shots = len(episode.support) if listed else episode.support.shape[1]
    for k in range(shots):
        shot: Any = slice(k, k + 1) if listed else (slice(None), slice(k, k + 1))
        yield replace(
            episode,
            support=episode.support[shot],
            support_label=episode.support_label[shot],
            cached_support=None if episode.cached_support is None else episode.cached_support[k::shots],
        )


class AdaptedToSupports(Steps):
    """A network that predicts each episode by a copy adapted to its supports (B = 1)."""

    def __init__(self, network: FewShotModel, seed: int):
        super().__init__([network])
        adaptable(network)  # else it raises, before hours are spent
        self.seed = seed

    def forward_classes(self, episodes: Sequence[Episode]) -> Output:
        """Return the output for several classes that compete."""
        network: Any = self.networks[0]
        try:
            network = fit(network, episodes, seed=self.seed)
        except NotLearnt as reason:
            log.info("episode %d: %s; the network itself predicts it", episodes[0].number, reason)
        return predicted_by(network, episodes)


class WithEdges(Steps):
    """A network whose masks get the edges of the query's photo; ``extra`` has its own logits as ``network``."""

    def __init__(self, network: nn.Module):
        super().__init__([network])
        self.cache_support = getattr(network, "cache_support", None)
        self.cache_query = getattr(network, "cache_query", None)

    def forward_classes(self, episodes: Sequence[Episode]) -> Output:
        """Return the output for several classes that compete, each of which gets edges of its own."""
        output = predicted_by(self.networks[0], episodes)
        logits = output.logits.float()
        background = logits[:, :1]
        photos = episodes[0].query.permute(0, 2, 3, 1).byte().cpu().numpy()
        margins = (logits[:, 1:] - background).cpu().numpy()
        refined_margins = torch.from_numpy(np.stack(refined_photos(photos, margins))).to(logits.device)
        refined_logits = torch.cat([torch.zeros_like(background), refined_margins], dim=1)
        return replace(output, logits=refined_logits, extra={**output.extra, NETWORK: logits})


def with_tta(network: FewShotModel, context: RunContext, view: View, shots: int) -> nn.Module:
    """Return the network of a test of K shots: averaged or adapted, with the photos' edges, as ``test`` asks.

    ``network`` has its weights, and was built from the context for the view of the test's images.

    Raises:
        UserError: ``test.scales`` names sizes that the model does not take, or ``test.adapt`` comes with other settings
            than it can.
        ModelMismatch: no layer of the network can be adapted.
    """
    test = context.config.test
    plain = test.passes(shots) == 1 and test.scales == PLAIN_SCALES
    with_steps: nn.Module = network
    if test.adapt:
        if shots == 1 or not plain or context.config.run.compile:
            others = "test.flip, test.scales, test.fuse and run.compile"
            raise UserError(f"test.adapt: takes episodes of two shots or more; leave out {others}")
        with_steps = AdaptedToSupports(network, context.config.run.seed)
    elif not plain:
        factors = real_scales(context.config, view)
        networks = [_network_of_side(network, context, view, round(factor * view.side)) for factor in factors]
        by_support = test.fuse == MASKS and shots > 1
        with_steps = TestTimeAugmentation(networks, factors, flip=test.flip, by_support=by_support)
    return WithEdges(with_steps) if test.edges else with_steps


def _network_of_side(network: FewShotModel, context: RunContext, view: View, side: int) -> FewShotModel:
    """Return a network of the same weights for images of a side, itself where it takes them already."""
    if view.rule == ORIGINAL or side == network.task.size:
        return network
    other = build_model(context.config, context.text_width, side, network.task.base_classes)
    try:
        other.load_state_dict(network.state_dict(), assign=True)  # no copy
    except RuntimeError:
        raise UserError(f"test.scales: these weights of {network.title} fit no side of {side} px") from None
    return other
