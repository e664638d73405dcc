"""Episode sampling: a pure function of (list, protocol, seed, number).

Workers, batches, processes and resuming only choose the numbers that are requested, so they cannot change an episode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from util.data.draws import PAIRS, Drawn
from util.data.lists.image_list import ImageList
from util.files.errors import UserError, call_foreign

# Independent streams of random numbers for the different uses of one seed.
ORDER, EPISODE, AUGMENT, CHOICE, FIXED = range(5)
REFERENCE = 6
SHUFFLED_PAIRS = "shuffled_pairs"  # a query rule

Way = tuple[int, tuple[int, ...]]  # a class (1-based) and its supports, as rows of the index


def random_stream(seed: int, stream: int, *key: int) -> np.random.Generator:
    """Return the random generator of a seed, one of the streams above, and a key such as an episode number."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, stream, *key])))


@lru_cache(maxsize=4)
def shuffled(length: int, seed: int, epoch: int) -> np.ndarray:
    """Return the permutation of 0..length - 1 of a seed and an epoch."""
    return random_stream(seed, ORDER, epoch).permutation(length)


@dataclass(frozen=True)
class EpisodeKey:
    """The images of an episode, as rows of the index, and its class (1-based)."""

    number: int
    query: int
    class_id: int
    supports: tuple[int, ...]
    others: tuple[Way, ...] = ()  # with several ways, the other classes with their supports

    @property
    def drawn(self) -> tuple[Way, ...]:
        """Class and supports of each way, in the order in which they were drawn."""
        return ((self.class_id, self.supports), *self.others)

    @property
    def ways(self) -> list[EpisodeKey]:
        """The episodes of each class alone, by ascending class: way i has the value i + 1 in labels."""
        return [replace(self, class_id=c, supports=supports, others=()) for c, supports in sorted(self.drawn)]

    @property
    def classes(self) -> list[int]:
        """The classes of all ways, ascending."""
        return sorted(class_id for class_id, _ in self.drawn)

    @property
    def rows(self) -> tuple[int, ...]:
        """The rows of all images: the query, then the supports of way after way."""
        return (self.query, *(row for way in self.ways for row in way.supports))


@dataclass(frozen=True)
class EpisodeSampler:
    """Draws episode ``number`` of a list; class and supports depend on the seed and the number alone.

    The query rule ``sequential`` takes the list in order and starts again at its end; ``shuffle`` takes it in a new
    random order each epoch (training); ``random`` draws with replacement; ``pairs`` takes the (image, class) pairs of
    the list in order, ``shuffled_pairs`` in a new random order each epoch; ``class_then_query`` draws a class, then one
    of its images; ``class_in_turn`` takes the classes in turn. With ``references`` a rule is asked once for so many
    episodes. The other ways come after everything else of the episode has been drawn, so that an episode's first class
    and its supports are those of the same number with one way.
    """

    images: ImageList
    query: str
    shots: int  # K
    seed: int
    with_replacement: bool = False  # whether a support may occur twice
    first: bool = False  # whether a class's first K images are the supports of all its episodes, and no queries (pairs)
    ways: int = 1
    references: int = 1  # episodes in a row of one query, each with other supports
    # Of a published run, or a registered one, in place of all these rules: takes list, sampler, seed and number
    draw: Callable[[ImageList, EpisodeSampler, int, int], Drawn] | None = None

    def __call__(self, number: int) -> EpisodeKey:
        """Return the episode of a number: a query, one of its classes, and K supports in which the class is present."""
        if self.draw is not None:
            query, class_id, supports = call_foreign(
                f"sampler {self.query}: episode {number}", self.draw, self.images, self, self.seed, number
            )
            return EpisodeKey(number, int(query), int(class_id), tuple(map(int, supports)))
        if self.references > 1:
            return self._with_reference(number)
        random = random_stream(self.seed, EPISODE, number)
        query, class_id = self._query(number, random)
        supports = self._supports(query, class_id, random)
        others = self._other_ways(query, class_id, random)
        return EpisodeKey(number, query, class_id, supports, others)

    def _with_reference(self, number: int) -> EpisodeKey:
        """Return an episode whose supports are next in a random order of its query's candidates.

        Each round of ``len(candidates) // K`` episodes has an order of its own, in which no support comes twice.
        """
        question, reference = divmod(number, self.references)
        query, class_id = self._query(question, random_stream(self.seed, EPISODE, question))
        rows = self.images.candidates[class_id]
        candidates = rows[rows != query]
        turn, place = divmod(reference, len(candidates) // self.shots)
        order = random_stream(self.seed, REFERENCE, question, turn).permutation(candidates)
        supports = order[place * self.shots :][: self.shots]
        return EpisodeKey(number, query, class_id, tuple(supports.tolist()))

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The (image, class) pairs that are queries by rules of pairs."""
        if not self.first:
            return self.images.pairs
        supports = {c: rows[: self.shots] for c, rows in self.images.candidates.items()}
        return tuple((row, c) for row, c in self.images.pairs if row not in supports[c])

    @cached_property
    def complete_classes(self) -> list[int]:
        """The classes that have enough candidates for their supports, whichever image is the query."""
        needed = 1 if self.with_replacement else self.shots
        return [c for c in self.images.classes if len(self.images.candidates[c]) > needed]

    def _supports(self, query: int, class_id: int, random: np.random.Generator) -> tuple[int, ...]:
        rows = self.images.candidates[class_id]
        if self.first:
            supports = rows[: self.shots]
        else:
            supports = random.choice(rows[rows != query], self.shots, self.with_replacement)
        return tuple(supports.tolist())

    def _other_ways(self, query: int, class_id: int, random: np.random.Generator) -> tuple[Way, ...]:
        """Return further classes of an episode with their supports; none with one way."""
        rest = [c for c in self.complete_classes if c != class_id]
        drawn = random.choice(rest, size=self.ways - 1, replace=False).tolist()
        return tuple((c, self._supports(query, c, random)) for c in drawn)

    def _query(self, number: int, random: np.random.Generator) -> tuple[int, int]:
        """Return the query and the class of an episode by the query rule."""
        images = self.images
        if self.query in (PAIRS, SHUFFLED_PAIRS):
            return self.pairs[self._position(number, len(self.pairs))]
        if self.query in ("class_then_query", "class_in_turn"):
            classes = [c for c in images.classes if len(images.candidates[c])]
            is_in_turn = self.query == "class_in_turn"
            class_id = classes[number % len(classes)] if is_in_turn else int(random.choice(classes))
            return int(random.choice(images.candidates[class_id])), class_id
        if self.query == "random":
            position = int(random.integers(len(images.queries)))
        else:  # sequential, shuffle
            position = self._position(number, len(images.queries))
        query = int(images.queries[position])
        return query, int(random.choice(images.classes_in(query)))

    def _position(self, number: int, length: int) -> int:
        """Return the position of a number in a list that is read again and again, shuffled each time by some rules."""
        epoch, position = divmod(number, length)
        return int(shuffled(length, self.seed, epoch)[position]) if "shuffle" in self.query else position


@dataclass(frozen=True)
class ListedEpisodes:
    """Sampler that returns given episodes by number, such as those of one seed of a manifest."""

    images: ImageList
    seed: int
    keys: tuple[EpisodeKey, ...]

    def __call__(self, number: int) -> EpisodeKey:
        """Return the episode of a number."""
        return self.keys[number]


CHECKED = 200  # episodes of a registered sampler, before any is used


def check_contract(sampler: EpisodeSampler) -> None:
    """Refuse (UserError) a sampler with a ``draw`` of others that breaks the contract of an episode."""
    for number in range(CHECKED):
        key = sampler(number)
        if problem := "differs when it is drawn again" if key != sampler(number) else _problem(sampler, key):
            raise UserError(f"sampler {sampler.query}: episode {number} {problem}; mend the sampler")


def _problem(sampler: EpisodeSampler, key: EpisodeKey) -> str:
    """Say what of a registered sampler's episode is wrong, as ``problem_of``; its photos have to be of the list."""
    candidates = {*sampler.images.candidates.get(key.class_id, np.empty(0)).tolist()}
    is_shown = key.query in sampler.images.queries and key.class_id in sampler.images.classes_in(key.query)
    if not is_shown or not {*key.supports} <= candidates:
        return (
            f"has query {key.query} and supports {key.supports}, not photos of the list that show class {key.class_id}"
        )
    if len({*key.supports}) < len(key.supports) and not sampler.with_replacement:
        return f"has a support twice, {key.supports}; set supports: with_replacement"
    return problem_of(key, sampler.images, sampler.shots)


def problem_of(key: EpisodeKey, images: ImageList, shots: int, ways: int = 1) -> str:
    """Say what of an episode is not as every episode of a list's classes is; '': all is."""
    names = images.index.names
    if not len({*key.classes}) == len(key.classes) == ways:
        return f"has the classes {key.classes}, not {ways} different ones (ways)"
    for class_id, supports in key.drawn:
        if class_id not in images.classes:
            return f"is of class {class_id}, not one of the list, {[*images.classes]}"
        if len(supports) != shots:
            return f"has {len(supports)} supports, not {shots} (--shot)"
        if key.query in supports:
            return f"has its query '{names[key.query]}' among its own supports"
        needs_class = supports if class_id != key.class_id else (key.query, *supports)
        for row in needs_class:
            if not images.index.areas[row, class_id]:
                return f"shows no pixel of class {class_id} in '{names[row]}'"
    return ""


Sampler = EpisodeSampler | ListedEpisodes
