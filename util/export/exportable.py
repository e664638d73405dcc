"""A segmenter's network as a function of tensors alone, and the episodes on which an export of it is checked."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from util.errors import UserError
from util.predict.encoded_class import SupportBatch, episode_of, shots_per_batch
from util.predict.segmenter import Segmenter
from util.predict.supports import UNNAMED

NOISE_SEED = 0


class CheckEpisode(NamedTuple):
    """Inputs of both graphs: a query (3, S, S), and the supports' tensors by name."""

    query: Tensor
    supports: dict[str, Tensor]


class Exportable:
    """The probabilities of a segmenter's classes for one query.

    Args:
        segmenter: on the CPU, in float32; without classes it has one slot for a class.
        shots: K; None for the number of the segmenter's supports, else as trained, else 1.

    Raises:
        UserError: the classes have different numbers of supports, or the model does not take that number.
    """

    def __init__(self, segmenter: Segmenter, shots: int | None):
        self.segmenter, self.network = segmenter, segmenter.model.network
        self.names = [known.name for known in segmenter.classes] or [UNNAMED]
        self.shots = self._shots(shots)
        self.together = shots_per_batch(self.names[0], self.shots, segmenter.model)

    def _shots(self, wanted: int | None) -> int:
        counts = {known.name: len(known.sources) for known in self.segmenter.classes}
        if len(set(counts.values())) > 1:
            each = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise UserError(f"--support: an export has one number of supports for all classes, not {each}")
        given = next(iter(counts.values()), None)
        if wanted is not None and given not in (None, wanted):
            raise UserError(f"--shots {wanted}: must be {given}, the number of supports given, or omitted")
        trained = self.network.shots_of(self.network.state_dict())
        return given or wanted or trained or 1

    def __call__(self, query: Tensor, images: Tensor, labels: Tensor, text: Tensor | None = None) -> Tensor:
        """Return probabilities (n + 1, S, S), background first.

        Args:
            query: (3, S, S) float32, RGB in 0..255.
            images: of the K supports of n classes, (n, K, 3, S, S), as the query.
            labels: (n, K, S, S) uint8 in {0, 1, 255}.
            text: vectors of the class names (n, T), for models that read them.
        """
        cached, episodes = self.network.cache_query(query[None]), []
        starts = range(0, self.shots, self.together)
        for i in range(len(self.names)):
            for first in starts:
                part = slice(first, first + self.together)
                image, label = images[i : i + 1, part], labels[i : i + 1, part]
                supports = SupportBatch(image, label, self.network.cache_support(image, label))
                vector = None if text is None else text[i]
                episodes.append(episode_of(query[None], supports, vector, 0, self.network.reads_base_labels, cached))
        output = self.network.forward_classes(episodes)
        (margins,) = self.segmenter.margins_of(output, [len(starts)] * len(self.names))
        return torch.cat([torch.zeros_like(margins[:1]), margins]).softmax(0)

    def noise(self) -> CheckEpisode:
        """Return noise as images, and supports whose labels are rectangles."""
        side, count = self.segmenter.model.view.side, len(self.names)
        random = torch.Generator().manual_seed(NOISE_SEED)
        query, images = (
            255 * torch.rand(*shape, 3, side, side, generator=random) for shape in ((), (count, self.shots))
        )
        labels = torch.zeros(count, self.shots, side, side, dtype=torch.uint8)
        labels[..., side // 4 : -(side // 4), side // 3 : -(side // 4)] = 1
        return CheckEpisode(query, {"images": images, "labels": labels, **self._text()})

    def given(self) -> CheckEpisode | None:
        """Return the given supports, and the first of them as the query; None without supports."""
        if not self.segmenter.classes:
            return None
        kinds = []
        for kind in ("image", "label"):
            each = [torch.cat([getattr(b, kind) for b in c.support_batches], 1) for c in self.segmenter.classes]
            kinds.append(torch.cat(each).clone())  # (n, K, ...), no longer tensors of the inference mode
        return CheckEpisode(kinds[0][0, 0].clone(), {"images": kinds[0], "labels": kinds[1], **self._text()})

    def _text(self) -> dict[str, Tensor]:
        if not self.network.reads_text:
            return {}
        vectors = [known.embedding.vector for known in self.segmenter.classes]
        if not vectors:
            table = self.segmenter.model.context.vectors
            assert table is not None  # the model reads text
            vectors = [table[1:].mean(0)]
        return {"text": torch.stack([torch.from_numpy(v).float() for v in vectors])}
