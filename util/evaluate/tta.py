"""Test-time augmentation: a network sees an episode mirrored, at other sizes, each support alone, and averages.

The average is of probabilities: the softmax of every output over its classes, the base learner's included, brought back
to the query's size and unmirrored. The result is their logarithm, because an ``Output`` holds logits: it differs from
the logits of a single pass by a constant per pixel, which does not affect ``argmax``. If a network's outputs are scores
of a narrow range, such as cosines, their softmax is flat, and the average is close to that of the scores themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from model.common.ops import in_float32, resize
from model.contract import FewShotModel
from model.episode import CachedFeatures, Episode, EpisodeOfOriginalSizes, Output
from util.config.settings import MASKS
from util.data.images.views import ORIGINAL, View
from util.errors import UserError
from util.evaluate.evaluate import BASE, scored_outputs
from util.report.scores import FINAL
from util.run.context import RunContext
from util.run.input_size import real_scales
from util.run.network import new_model

MIN = torch.finfo(torch.float32).tiny  # the smallest probability whose logarithm is finite


@dataclass(frozen=True)
class TtaView:
    """One view of an image: resized by a factor, then perhaps mirrored left-right."""

    factor: float
    mirrored: bool

    def image(self, image: Tensor) -> Tensor:
        """Return the view of images (..., 3, H, W), float32 if they are resized."""
        size = self._size(image)
        if size != tuple(image.shape[-2:]):
            image = resize(image.flatten(0, -4).float(), size).unflatten(0, image.shape[:-3])
        return image.flip(-1) if self.mirrored else image

    def label(self, label: Tensor) -> Tensor:
        """Return the view of label maps (..., H, W): nearest pixels, on the grid that ``image`` interpolates on."""
        rows, columns = (
            torch.linspace(0, length - 1, wanted, device=label.device).round().long()
            for length, wanted in zip(label.shape[-2:], self._size(label))
        )
        label = label[..., rows[:, None], columns]
        return label.flip(-1) if self.mirrored else label

    def episode(self, episode: Episode) -> Episode:
        """Return the view of an episode, query and supports alike, without cached features."""
        base_label = episode.query_base_label
        support: Any
        support_label: Any
        if isinstance(episode, EpisodeOfOriginalSizes):
            support = [self.image(image) for image in episode.support]
            support_label = [self.label(label) for label in episode.support_label]
        else:
            support, support_label = self.image(episode.support), self.label(episode.support_label)
        return replace(
            episode,
            query=self.image(episode.query),
            query_label=self.label(episode.query_label),
            support=support,
            support_label=support_label,
            query_base_label=None if base_label is None else self.label(base_label),
            cached_support=None,
            cached_query=None,
        )

    @in_float32
    def probability(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        """Return the probabilities (B, C, *size) of the query's pixels from the logits (B, C, H, W) of the view."""
        probability = logits.softmax(1)
        return resize(probability.flip(-1) if self.mirrored else probability, size)

    def _size(self, x: Tensor) -> tuple[int, int]:
        height, width = (max(round(self.factor * side), 1) for side in x.shape[-2:])
        return height, width


@dataclass(frozen=True)
class CachedByView:
    """The cached features of images, by view: for every view a list with one entry per image."""

    by_view: list[list[CachedFeatures]]

    @property
    def nbytes(self) -> int:
        """The size of all of them in bytes."""
        return sum(features.nbytes for views in self.by_view for features in views)


class TestTimeAugmentation(nn.Module):
    """Networks of the same weights, one per factor, that see an episode in turn; the tester calls it like a network.

    Args:
        networks: each built for images of the size that its factor gives.
        factors: relative to the size of the images that ``forward`` gets.
        flip: whether every network also sees its images mirrored.
        each_support_alone: whether the networks take one shot, and every support is seen in passes of its own.
    """

    __test__ = False  # not a test case, whatever pytest thinks of the name

    def __init__(
        self, networks: Sequence[FewShotModel], factors: Sequence[float], flip: bool, each_support_alone: bool
    ):
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.tta_views = [TtaView(factor, mirrored) for factor in factors for mirrored in (False, True)[: 1 + flip]]
        self.each_support_alone = each_support_alone
        self.masks_supports = networks[0].masks_supports

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile each network, as ``nn.Module.compile`` does; the loop over views stays Python."""
        for network in self.networks:
            network.compile(*args, **kwargs)

    def forward(self, episode: Episode) -> Output:
        """Return the averaged outputs at the query's size; ``maps``, which are only displayed, are the first pass's."""
        return self._averaged([episode], lambda network, seen: network(*seen))

    def forward_classes(self, episodes: Sequence[Episode]) -> Output:
        """Return the averaged outputs for several classes that compete."""
        return self._averaged(episodes, lambda network, seen: network.forward_classes(seen))

    def _averaged(
        self, episodes: Sequence[Episode], outputs: Callable[[FewShotModel, Sequence[Episode]], Output]
    ) -> Output:
        sums: dict[str, Tensor] = {}
        maps: dict[str, Tensor] = {}
        passes, size = 0, episodes[0].query.shape[-2:]
        for network, tta_view, seen in self._seen(episodes):
            output = outputs(network, seen)
            passes, maps = passes + 1, maps if passes else output.maps
            for name, logits in scored_outputs(output).items():
                probability = tta_view.probability(logits, size)
                sums[name] = sums[name] + probability if name in sums else probability
        averages = {name: (total / passes).clamp_min(MIN).log() for name, total in sums.items()}
        return Output(averages.pop(FINAL), averages.pop(BASE, None), averages, maps)

    def _by_view(self) -> Iterator[tuple[int, FewShotModel, TtaView]]:
        """Yield every view with its number and its network."""
        per_network = len(self.tta_views) // len(self.networks)
        for number, tta_view in enumerate(self.tta_views):
            yield number, cast(FewShotModel, self.networks[number // per_network]), tta_view

    def _seen(self, episodes: Sequence[Episode]) -> Iterator[tuple[FewShotModel, TtaView, Sequence[Episode]]]:
        """Yield each pass: its network, its view, and the episodes in that view; with masks, one shot of each."""
        for number, network, tta_view in self._by_view():
            views = []
            for episode in episodes:
                seen = tta_view.episode(episode)
                seen.cached_support = _of_view(episode.cached_support, number)
                seen.cached_query = _of_view(episode.cached_query, number)
                views.append(seen)
            for each in zip(*map(_one_by_one, views)) if self.each_support_alone else [views]:
                yield network, tta_view, each

    # --- called by the feature cache ---------------------------------------------------------------------------------

    def cache_support(self, support: Tensor, support_label: Tensor) -> CachedByView | None:
        """Return the cached features of supports (1, K, 3, H, W) with labels (1, K, H, W), None if there are none."""

        def by(network: FewShotModel, tta_view: TtaView) -> list[CachedFeatures | None]:
            pairs = zip(tta_view.image(support).split(1, dim=1), tta_view.label(support_label).split(1, dim=1))
            return [network.cache_support(*pair) for pair in pairs]

        return _cached([by(network, tta_view) for _, network, tta_view in self._by_view()])

    def cache_query(self, query: Tensor) -> CachedByView | None:
        """Return the cached features of a query (1, 3, H, W), None if there are none."""
        return _cached([[n.cache_query(tta_view.image(query))] for _, n, tta_view in self._by_view()])


def with_tta(network: FewShotModel, context: RunContext, view: View, shots: int) -> FewShotModel | TestTimeAugmentation:
    """Return the network of a test of K shots, in test-time augmentation if ``test.flip``, ``scales`` or ``fuse`` ask.

    Args:
        network: with its weights, built for the view.
        context: that the network was built from.
        view: of the test's images.
        shots: K of its episodes.

    Raises:
        UserError: ``test.scales`` names sizes that the model does not take.
    """
    test = context.config.test
    if not test.averaged(shots):
        return network
    factors = real_scales(context.config, view)
    networks = [network if view.rule == ORIGINAL else _at(network, context, round(f * view.side)) for f in factors]
    return TestTimeAugmentation(networks, factors, test.flip, test.fuse == MASKS and shots > 1)


def _at(network: FewShotModel, context: RunContext, side: int) -> FewShotModel:
    """Return the network built for another side, over the same weights."""
    own = network.task.size
    if side == own:
        return network
    other = new_model(context, side, network.task.base_classes)
    try:
        other.load_state_dict(network.state_dict(), assign=True)  # no copy
    except RuntimeError:
        raise UserError(
            f"test.scales: {network.title} has weights for one image side, {own} px here, and cannot see {side} px; "
            "set test.scales to [1.0]"
        ) from None
    return other


def _of_view(cached: list[CachedFeatures] | None, number: int) -> list[CachedFeatures] | None:
    """Return the cached features of one view, in the order of the images."""
    if cached is None:
        return None
    return [features for kept in cached for features in cast(CachedByView, kept).by_view[number]]


def _one_by_one(episode: Episode) -> Iterator[Episode]:
    """Yield the one-shot episodes of B K-shot episodes, support by support."""
    listed = isinstance(episode, EpisodeOfOriginalSizes)
    shots = len(episode.support) if listed else episode.support.shape[1]
    for k in range(shots):
        here: Any = slice(k, k + 1) if listed else (slice(None), slice(k, k + 1))
        cached = None if episode.cached_support is None else episode.cached_support[k::shots]
        yield replace(
            episode, support=episode.support[here], support_label=episode.support_label[here], cached_support=cached
        )


def _cached(by_view: list[list[CachedFeatures | None]]) -> CachedByView | None:
    """Return the cached features by view, None if the model keeps none of some image."""
    kept = [[features for features in views if features is not None] for views in by_view]
    return CachedByView(kept) if list(map(len, kept)) == list(map(len, by_view)) else None
