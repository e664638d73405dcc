"""A test: one protocol with one number of shots, as a config names them, and all that decides its scores.

It is made once, and asked by who scores it, verifies its result, or puts that into a table.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from model.decides import Decides
from util.config.same import deciding
from util.config.settings import Config
from util.data.draws import why_not_published
from util.data.episodes import Sampler
from util.data.lists.image_list import ImageList
from util.data.lists.manifest import digest, replay
from util.data.sampling import EpisodeSampler, ListedEpisodes
from util.run.build import precision_asked_of_test
from util.run.data import check_sampler, images_for_test, protocol_sampler
from util.run.input_size import view_of
from util.run.run import FOREIGN, Run
from util.run.weights import Loaded, load_weights
from util.weights.checkpoint import Checkpoint
from util.weights.encoders import letters_of


@dataclass
class Shared:
    """The lists and networks that the tests of one command share, each made once, and a checkpoint that was read."""

    stored: Checkpoint | None = None
    made: dict[tuple, Any] = field(default_factory=dict)

    def once(self, key: tuple, make: Callable[[], Any]) -> Any:
        """Return the thing of a key, which ``make`` makes at the first call."""
        if key not in self.made:
            self.made[key] = make()
        return self.made[key]


class Evaluation:
    """A test as its config names it; data and weights are read when they are asked for.

    UserError, of each part: protocol, manifest, checkpoint or data are missing or do not fit.
    """

    def __init__(
        self,
        config: Config,
        name: str | None = None,
        shot: int | None = None,
        *,
        replayed: Path | None = None,
        progress: bool = False,
        shared: Shared | None = None,
    ):
        """Make the test of a config by a protocol, default ``test.protocol``, of K shots, default ``data.shot``."""
        self.name = name or config.test.protocol  # of its protocol
        self.shot = shot or config.data.shot  # K, the number of supports
        # of this test alone: ``test.protocol`` and ``data.shot`` are its own
        self.config = replace(config.with_data(shot=self.shot), test=replace(config.test, protocol=self.name))
        self.protocol = config.protocols[self.name]
        self.run = Run(self.config)  # whose weights it takes
        self.view = view_of(self.config, self.protocol)  # how photos become the network's input
        self.scored_on = self.view.label_kind(self.protocol.scored_on)  # letterbox, square or original
        self.replayed = replayed  # the manifest whose episodes these are, None for the protocol's own
        self.progress = progress  # whether this process shows bars and warnings
        self.shared = shared or Shared()

    @cached_property
    def images(self) -> ImageList:
        """Its list, of a replay too."""
        return self.shared.once(
            ("list", self.shot, self.protocol.list_file),
            lambda: images_for_test(self.run, self.progress, self.protocol),
        )

    @cached_property
    def samplers(self) -> dict[int, Sampler]:
        """The samplers of its episodes, by seed."""
        if self.replayed is not None:
            return {**replay(self.replayed, self.images, self.config.data, self.protocol.ways)}
        seeds = self.protocol.seeds if self.config.test.seeds is None else self.config.test.seeds
        data = self.config.data
        check_sampler(self.images, self.sampler(seeds[0]), self.name, f"fold {data.fold} of {data.name}")
        return {seed: self.sampler(seed) for seed in seeds}

    def sampler(self, seed: int) -> EpisodeSampler:
        """Return the sampler of the protocol's own episodes of a seed."""
        return protocol_sampler(self.run, self.images, self.protocol, seed)

    @cached_property
    def episodes(self) -> dict[int, int]:
        """The number of its episodes, by seed."""
        asked = self.config.test.episodes
        number = None if self.replayed else self.protocol.number(self.config.data.fold)
        if number is not None:
            return dict.fromkeys(self.samplers, asked or number)
        every = {seed: _all_episodes(sampler) for seed, sampler in self.samplers.items()}
        return {seed: min(there, asked or there) for seed, there in every.items()}

    @cached_property
    def episode_digests(self) -> list[str]:
        """The digests of the episodes of each seed, by image names."""
        return [digest(sampler, self.episodes[seed]) for seed, sampler in self.samplers.items()]

    @property
    def quick_look(self) -> bool:
        """Whether the test has another number of episodes than the protocol, or fewer than the manifest."""
        asked = self.config.test.episodes
        if self.replayed is None:
            return asked not in (None, self.protocol.number(self.config.data.fold))
        return any(self.episodes[seed] < _all_episodes(sampler) for seed, sampler in self.samplers.items())

    @cached_property
    def draw_note(self) -> str:
        """Why the episodes are not those of published runs whose draw the protocol names; '' if they are."""
        if self.replayed is not None:
            return "the episodes of a manifest"
        return why_not_published(self.images, self.config.data, self.protocol, self.config.test.seeds)

    @property
    def loaded(self) -> Loaded:
        """The network with its weights, one for all tests of a command with this number of shots and this side."""
        side = self.view.side or None
        return self.shared.once(("network", self.shot, side), lambda: load_weights(self.run, side, self.shared.stored))

    @property
    def classes_trained_on(self) -> list[str]:
        """The names of those of its classes that its weights were trained on."""
        trained = {*map(letters_of, self.loaded.stored.classes or ())}
        names = [self.config.data.classes[c - 1] for c in self.images.classes]
        return [name for name in names if letters_of(name) in trained]

    @property
    def folder(self) -> Path:
        """The folder of its result: ``test[_5shot]/<protocol>``.

        A result of other weights than the run's best, of other seeds or another number of episodes goes to a folder
        beside it whose name says so.
        """
        weights_mark = self.run.weights_mark
        if weights_mark == FOREIGN:  # many such files are called best.pth
            place = os.path.relpath(str(self.run.weights_file), self.config.run.folder)
            weights_mark += f"-{sha256(place.encode()).hexdigest()[:6]}"
        seeds = self.config.test.seeds
        episodes = ""
        if self.replayed:
            episodes = "replay"
        elif seeds not in (None, self.protocol.seeds) and not self.quick_look:
            episodes = f"seeds-{'-'.join(map(str, seeds))}"[:80]  # file systems limit names
        marks = self.name, weights_mark, episodes, "quick" if self.quick_look else ""
        return self.run.folder("test") / "_".join(filter(None, marks))


def _all_episodes(sampler: Sampler) -> int:
    """Return how many episodes a manifest, or a rule of pairs, has."""
    return len(sampler.keys if isinstance(sampler, ListedEpisodes) else sampler.pairs)


def deciding_scores(merged: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a merged config that can affect the scores of its test, its weights given."""
    protocol = merged["test"]["protocol"]
    with_its_protocol = {**merged, "protocols": {protocol: merged["protocols"][protocol]}}
    settings = deciding(with_its_protocol, Decides.SCORES, skip=("base_stage", "meta_stage", "run.deterministic"))
    settings["run"]["precision"] = precision_asked_of_test(merged["run"].get("precision"))
    return settings
