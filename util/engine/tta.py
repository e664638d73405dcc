"""A network that sees an episode several times, mirrored, at other sizes, each support alone, and averages (a test's).

What is averaged are probabilities: the softmax of every output over its classes, the base learner's included, brought
back to the query's size and unmirrored. What is returned is their logarithm, for an ``Output`` holds logits: it differs
from a single pass's own by a constant per pixel, so that resizing and ``argmax`` decide as they do without. Where a
network's outputs are scores of a narrow range, such as cosines, their softmax is flat, and the average is close to that
of the scores themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from model.common.ops import in_float32, resize
from model.contract import CachedFeatures, Episode, FewShotModel, Output
from util.config.settings import MASKS
from util.data.views import ORIGINAL, View
from util.engine.evaluation import BASE, scored_outputs
from util.engine.input_size import real_scales
from util.engine.run_context import RunContext, new_model
from util.errors import UserError
from util.report.scores import FINAL

MIN = torch.finfo(torch.float32).tiny  # probability whose logarithm is still a number


@dataclass(frozen=True)
class TtaView:
    """How one pass sees images: resized by a factor, then perhaps mirrored left-right."""

    factor: float
    mirrored: bool

    def image(self, image: Tensor) -> Tensor:
        """Return images (..., 3, H, W) as seen, float32 where they are resized."""
        size = self._size(image)
        if size != image.shape[-2:]:
            image = resize(image.flatten(0, -4).float(), size).unflatten(0, image.shape[:-3])
        return image.flip(-1) if self.mirrored else image

    def label(self, label: Tensor) -> Tensor:
        """Return label maps (..., H, W) as seen: the nearest pixel, on the grid that ``image`` interpolates on."""
        rows, columns = (
            torch.linspace(0, length - 1, wanted, device=label.device).round().long()
            for length, wanted in zip(label.shape[-2:], self._size(label))
        )
        label = label[..., rows[:, None], columns]
        return label.flip(-1) if self.mirrored else label

    def episode(self, episode: Episode) -> Episode:
        """Return an episode with query and supports as seen; nothing is remembered of these."""
        base_label = episode.query_base_label
        return replace(
            episode,
            query=self.image(episode.query),
            query_label=self.label(episode.query_label),
            support=_each(self.image, episode.support),
            support_label=_each(self.label, episode.support_label),
            query_base_label=None if base_label is None else self.label(base_label),
            cached_support=None,
            cached_query=None,
        )

    @in_float32
    def probability(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the probabilities (B, C, *size) that logits (B, C, H, W) of what was seen give the query's pixels."""
        probability = logits.softmax(1)
        return resize(probability.flip(-1) if self.mirrored else probability, size)

    def _size(self, x: Tensor) -> tuple[int, int]:
        return tuple(max(round(self.factor * side), 1) for side in x.shape[-2:])


@dataclass(frozen=True)
class CachedByView:
    """What the network remembers of images by each tta_view: of every image one memory."""

    by_view: list[list[CachedFeatures]]

    @property
    def nbytes(self) -> int:
        """Bytes that all of it takes."""
        return sum(memory.nbytes for memories in self.by_view for memory in memories)


class TestTimeAugmentation(nn.Module):
    """Networks of the same weights, one for each factor, that see an episode in turn; for the tester a network.

    Args:
        networks: built for images of the size that their factor gives.
        factors: on the size of the images that ``forward`` gets.
        flip: whether every network also sees its images mirrored.
        each_support_alone: the networks take one shot, and every support is seen in passes of its own.
    """

    def __init__(self, networks: list[FewShotModel], factors: list[float], flip: bool, each_support_alone: bool):
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.tta_views = [TtaView(factor, mirrored) for factor in factors for mirrored in (False, True)[: 1 + flip]]
        self.each_support_alone = each_support_alone
        self.masks_supports = networks[0].masks_supports

    def forward(self, episode: Episode) -> Output:
        """Return the averaged outputs at the query's size; ``maps``, which are only looked at, are the first pass's."""
        sums: dict[str, Tensor] = {}
        passes, maps, size = 0, None, episode.query.shape[-2:]
        for network, tta_view, seen in self._seen(episode):
            output = network(seen)
            passes, maps = passes + 1, output.maps if maps is None else maps
            for name, logits in scored_outputs(output).items():
                probability = tta_view.probability(logits, size)
                sums[name] = sums[name] + probability if name in sums else probability
        logits = {name: (total / passes).clamp_min(MIN).log() for name, total in sums.items()}
        return Output(logits.pop(FINAL), logits.pop(BASE, None), logits, maps)

    def _by_view(self) -> Iterator[tuple[int, FewShotModel, TtaView]]:
        """Yield every tta_view with its number and its network."""
        per_network = len(self.tta_views) // len(self.networks)
        for number, tta_view in enumerate(self.tta_views):
            yield number, self.networks[number // per_network], tta_view

    def _seen(self, episode: Episode) -> Iterator[tuple[FewShotModel, TtaView, Episode]]:
        """Yield each pass: its network, and how and what that sees."""
        for number, network, tta_view in self._by_view():
            seen = tta_view.episode(episode)
            if episode.cached_support is not None:
                seen.cached_support = [m for kept in episode.cached_support for m in kept.by_view[number]]
            if episode.cached_query is not None:
                seen.cached_query = [m for kept in episode.cached_query for m in kept.by_view[number]]
            for one in _one_by_one(seen) if self.each_support_alone else [seen]:
                yield network, tta_view, one

    # --- what the feature cache asks ---------------------------------------------------------------------------------

    def cache_support(self, support: Tensor, support_label: Tensor) -> CachedByView | None:
        """Return what the networks remember of supports (1, K, 3, H, W) with labels (1, K, H, W), None for nothing."""

        def by(network: FewShotModel, tta_view: TtaView) -> list[CachedFeatures | None]:
            pairs = zip(tta_view.image(support).split(1, dim=1), tta_view.label(support_label).split(1, dim=1))
            return [network.cache_support(*pair) for pair in pairs]

        return _cached([by(network, tta_view) for _, network, tta_view in self._by_view()])

    def cache_query(self, query: Tensor) -> CachedByView | None:
        """Return what the networks remember of a query (1, 3, H, W), None for nothing."""
        return _cached([[n.cache_query(tta_view.image(query))] for _, n, tta_view in self._by_view()])


def with_tta(network: FewShotModel, context: RunContext, view: View, shots: int) -> FewShotModel | TestTimeAugmentation:
    """Return what a test of K shots runs: the network, or that with what ``test.flip``, ``scales`` and ``fuse`` ask.

    Args:
        network: with its weights, built for the view.
        setting: that the network was built from.
        view: of the images that the test gives.
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
    """Return the network built for another side, over the same weights.

    Raises:
        UserError: the weights depend on the side.
    """
    own = network.task.size
    if side == own:
        return network
    other = new_model(context, side)
    try:
        other.load_state_dict(network.state_dict(), assign=True)  # no copy
    except RuntimeError:
        raise UserError(
            f"test.scales: {network.title} has weights for one image side, {own} px here, and cannot see {side} px; "
            "set test.scales to [1.0]"
        ) from None
    return other


def _each(change: Callable[[Tensor], Tensor], images: Tensor | list[Tensor]) -> Any:
    return [change(image) for image in images] if isinstance(images, list) else change(images)


def _one_by_one(episode: Episode) -> Iterator[Episode]:
    """Yield the one-shot episodes of B K-shot episodes, support by support."""
    listed = isinstance(episode.support, list)
    shots = len(episode.support) if listed else episode.support.shape[1]
    for k in range(shots):
        here = slice(k, k + 1) if listed else (slice(None), slice(k, k + 1))
        memory = None if episode.cached_support is None else episode.cached_support[k::shots]
        yield replace(
            episode, support=episode.support[here], support_label=episode.support_label[here], cached_support=memory
        )


def _cached(by_view: list[list[CachedFeatures | None]]) -> CachedByView | None:
    nothing = any(memory is None for memories in by_view for memory in memories)
    return None if nothing else CachedByView(by_view)
