"""What models with one image encoder share: where it starts, how an episode goes through it, what need not go again."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from model.common.ops import normalise
from model.contract import Episode, FewShotModel
from model.encoders.encoder import Encoder
from model.encoders.features import Features
from model.encoders.layouts import describe, encoder_part
from model.encoders.weights import TORCHVISION, download, load_encoder

OnIntermediate = Callable[[int, Tensor, Tensor], None]


class WithEncoder(FewShotModel):
    """A model with one image encoder, ``self.encoder``, that starts from weights of the known layouts.

    What ``Episode.cached_support`` holds, the features of all supports or of K that all queries share, does not go through the
    encoder again, nor what ``Episode.cached_query`` holds, the features of all queries.
    """

    downloads = (TORCHVISION,)
    reads_intermediate: ClassVar[bool] = False  # whether ``forward`` asks the encoder for taps as well
    encoder: Encoder

    def support_input(self, support: Tensor, support_label: Tensor) -> Tensor:
        """Return what the encoder sees of supports (..., 3, H, W); their labels (..., H, W) change nothing here."""
        return normalise(support)

    def encode(self, episode: Episode, on_intermediate: OnIntermediate | None = None) -> tuple[Features, Features]:
        """Return the features of B queries and of their B * K supports, which go through the encoder together.

        ``on_intermediate(stage, query's tap, supports' tap)`` is called for every tap as soon as it is there, so that none of
        them need be kept.
        """
        batch, shots = episode.support.shape[:2]
        if episode.cached_support is None:
            support = self.support_input(episode.support, episode.support_label)
            images = torch.cat([normalise(episode.query), support.flatten(0, 1)])
            taps = (
                self.reads_intermediate
                if on_intermediate is None
                else lambda i, tap: on_intermediate(i, tap[:batch], tap[batch:])
            )
            return self.encoder(images, intermediate=taps).split(batch)
        known = Features.join(episode.cached_support)
        query, support = self.encode_query(episode), known.repeat(batch * shots // len(known))
        if on_intermediate is not None:
            for stage, taps in query.intermediate.items():
                for pair in zip(taps, support.intermediate[stage], strict=True):
                    on_intermediate(stage, *pair)
        return query, support

    def encode_query(self, episode: Episode) -> Features:
        """Return the features of the B queries alone."""
        if episode.cached_query is not None:
            return Features.join(episode.cached_query)
        return self._features(normalise(episode.query))

    def encode_shot(self, episode: Episode, shot: int) -> Features:
        """Return the features of one shot of each of the B episodes, for a model that needs one at a time."""
        batch, shots = episode.support.shape[:2]
        if episode.cached_support is not None:
            each = [part.rows(slice(i, i + 1)) for part in episode.cached_support for i in range(len(part))]  # views
            known = Features.join(each[shot::shots])
            return known.repeat(batch // len(known))
        return self._features(self.support_input(episode.support[:, shot], episode.support_label[:, shot]))

    def encode_any_size(self, episode: Episode) -> tuple[Features, list[Features]]:
        """Return the features of a query and of each of its supports, images of any sizes, one by one."""
        if episode.cached_support is not None:
            return self.encode_query(episode), episode.cached_support
        pairs = zip(episode.support, episode.support_label)
        return self.encode_query(episode), [self._features(self.support_input(*pair)) for pair in pairs]

    def _features(self, image_b3hw: Tensor) -> Features:
        return self.encoder(image_b3hw, intermediate=self.reads_intermediate)

    # --- what the engine asks ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def cache_support(self, support: Tensor, support_label: Tensor) -> Features:
        """Return the supports' features, of K images."""
        return self._features(self.support_input(support, support_label).flatten(0, 1))

    @torch.no_grad()
    def cache_query(self, query: Tensor) -> Features:
        """Return the query's features."""
        return self._features(normalise(query))

    def load_encoder(self, state: dict[str, Tensor], partial: bool) -> list[str]:
        """Fill the encoder from an ImageNet file, or from the encoder within a checkpoint of ours."""
        return load_encoder(self.encoder, encoder_part(state), partial)

    def download_encoder(self, name: str) -> dict[str, Tensor]:
        """Return torchvision's ImageNet weights of the encoder."""
        return download(self.settings.backbone())

    def describe_weights(self, state: dict[str, Tensor]) -> str:
        """Return the encoder in words."""
        return describe(state)
