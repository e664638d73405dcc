"""Stores of encoded supports and query maps, for photos and for tests, so that no image is encoded twice."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from model.episode import Episode, Supports
from util.files.sizes import GIB

if TYPE_CHECKING:
    from model.trial import Trial
    from util.data.sampling import Sampler


@dataclass
class Support:
    """One support, by a key that says photo and label."""

    key: Hashable
    content: Supports  # n = 1
    row: int | None = None  # of the index, where its image may also be a query


class ShotStore:
    """The shots of supports, by their keys; a full store drops what was used longest ago first.

    ``gib`` is its maximal size in GiB; what is asked for at a time comes on top.
    """

    def __init__(self, gib: float):
        self.limit = gib * GIB
        self.network: Any = None
        self.scope: tuple[Any, ...] | None = None

    def use_for(self, network: Any, *scope: Any) -> None:
        """Name the network of the next supports; another network or ``scope`` (view, data, precision) empties it."""
        if self.network is not network or self.scope != scope:
            self.network, self.scope = network, scope
            self.kept: dict[Hashable, Any] = {}  # the one used last at the end
            self.maps: dict[Hashable, Any] = {}  # of whole images, which are dropped first; see ``TrialStore``
            self.of_queries: dict[Hashable, Any] = {}  # the maps of the last queries
            self.used = 0  # bytes

    def shots(self, supports: Sequence[Support]) -> list[Any]:
        """Return the shots of supports; missing ones are made. [] for a method that keeps nothing."""
        missing = {support.key: support for support in supports if support.key not in self.kept}
        made = self._made([*missing.values()])
        if len(made) < len(missing):
            return []
        known = {**self.kept, **dict(zip(missing, made, strict=True))}
        for support in supports:
            self._keep(self.kept, support.key, known[support.key])
        self._drop_oldest(self.maps, self.kept)
        return [known[support.key] for support in supports]

    def _made(self, supports: Sequence[Support]) -> list[Any]:
        """Return new shots of supports, of all in one call where they have one size."""
        contents = [support.content for support in supports]
        if len({content.image.shape for content in contents}) == 1:
            return self._encode(Supports.join(contents))
        return [shot for content in contents for shot in self._encode(content)]

    def _encode(self, content: Supports, maps: list[Any] | None = None) -> list[Any]:
        further = (content.modalities,) if content.modalities else ()  # else an ``encode_supports`` need not take any
        return self.network.encode_supports(content.image, content.label, maps, *further)

    def _keep(self, kept: dict[Any, Any], key: Hashable, value: Any) -> None:
        """Keep a value as what was used last."""
        if kept.pop(key, None) is None:
            self.used += value.nbytes
        kept[key] = value

    def _drop_oldest(self, *pools: dict[Hashable, Any]) -> None:
        """Drop of some pools, one after the other, what was used longest ago first, until the rest fits."""
        for pool in pools:
            while pool and self.used > self.limit:
                self.used -= pool.pop(next(iter(pool))).nbytes


class TrialStore(ShotStore):
    """The store of a test, which on a CPU also keeps the maps of whole images, by rows of the index.

    They are those of the last queries, which the next episode often has too, and of a method whose supports enter as
    queries those of all images. A full store drops maps first; the last queries come on top of its size.
    """

    def order(self, sampler: Sampler, episodes: int) -> list[int]:
        """Return the numbers below ``episodes`` class by class, those of one query in a row."""
        keys = [sampler(number) for number in range(episodes)]
        return sorted(range(episodes), key=lambda number: (keys[number].classes, keys[number].query))

    def fill(self, trial: Trial) -> list[Episode]:
        """Return the episodes of a trial, way by way, with the shots of their supports; missing ones are made."""
        encodes_apart = trial.ways[0].query.is_cpu  # a GPU encodes all queries in one call
        shots = self.shots(_supports_of(trial, encodes_apart and self.network.supports_enter_as_queries))
        if not shots:
            return trial.ways
        each = len(shots) // len(trial.ways)
        maps = self._maps_of_queries(trial) if encodes_apart else None
        return [replace(way, shots=shots[i * each : (i + 1) * each], maps=maps) for i, way in enumerate(trial.ways)]

    def _maps_of_queries(self, trial: Trial) -> list[Any] | None:
        """Return the maps of the queries of a trial, None of a method without maps."""
        rows = [row for row, *_ in trial.rows]
        queries = zip(rows, trial.ways[0].query.split(1), strict=True)
        self.of_queries = {row: self._maps_of(query, row) for row, query in queries}
        self._drop_oldest(self.maps, self.kept)
        maps = [self.of_queries[row] for row in rows]
        return None if None in maps else maps

    def _maps_of(self, image_1chw: Tensor, row: Hashable) -> Any:
        """Return the maps of an image, kept or new; None of a method without maps."""
        maps = self.maps.get(row, self.of_queries.get(row))
        if maps is None:
            [maps] = self.network.encode_queries(image_1chw) or [None]
        if self.network.supports_enter_as_queries:  # else no support reads them
            self._keep(self.maps, row, maps)
        return maps

    def _made(self, supports: Sequence[Support]) -> list[Any]:
        """Return new shots of supports, each of its image's maps where it may also be a query."""
        if all(support.row is None for support in supports):
            return super()._made(supports)
        shots = list[Any]()
        for support in supports:
            shots += self._encode(support.content, [self._maps_of(support.content.image, support.row)])
            self._drop_oldest(self.maps)
        return shots


def _supports_of(trial: Trial, with_rows: bool) -> list[Support]:
    """Return the supports of all ways of a trial, item after item; ``with_rows`` where their images' maps are kept."""
    supports: list[list[Support]] = [[] for _ in trial.ways]
    for item, (_, *support_rows) in enumerate(trial.rows):
        classes = tuple(int(way.class_id[item]) for way in trial.ways)  # labels of one way ignore the others
        rows = iter(support_rows)
        for way, of_way, class_id in zip(trial.ways, supports, classes, strict=True):
            for support in way.supports_of(item):
                row = next(rows)
                of_way.append(Support((row, class_id, classes), support, row if with_rows else None))
    return [support for of_way in supports for support in of_way]
