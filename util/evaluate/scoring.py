"""The tests of a command: each protocol with each number of shots, its network and its counts.

A mistake in weights, lists or episodes is found here, before any episode is scored.
"""

import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from util.config.settings import Config
from util.data.episodes import Sampler
from util.evaluate.evaluation import Evaluation, Shared
from util.loop.network import prepare_network
from util.loop.processes import ProcessGroup
from util.loop.score import Scoreboard
from util.run.build import precision_of_test
from util.run.data import sources_of
from util.weights.checkpoint import Checkpoint


class Scoring(Evaluation):
    """A test on a device, and what has been counted of it."""

    def __init__(
        self,
        config: Config,
        name: str,
        shot: int,
        *,
        replayed: Path | None,
        shared: Shared,
        world: ProcessGroup,
        precision: str,
    ):
        """Load the weights and choose the episodes; further arguments as ``Evaluation``."""
        super().__init__(config, name, shot, replayed=replayed, progress=world.is_main, shared=shared)
        self.prepared = prepare_network(self.loaded.network, world.device, precision)  # for the view's image side
        world.from_main(lambda: bool(sources_of(self.run, self.images)))  # reads the list, whose index may be new
        self.boards = {seed: self._board(sampler) for seed, sampler in self.samplers.items()}  # the counts, by seed
        self.seconds = 0.0
        self.batch = 1  # episodes at a time

    def _board(self, sampler: Sampler) -> Scoreboard:
        """Return what counts the episodes of a seed."""
        names = self.images.index.names
        return Scoreboard(
            classes=len(self.config.data.classes),
            further=self.config.test.metrics,
            query_of=lambda number: names[sampler(number).query],
        )


def scorings_of(
    config: Config,
    world: ProcessGroup,
    protocols: Sequence[str] = (),
    shots: Sequence[int] = (),
    manifest: Path | None = None,
    *,
    stored: Checkpoint | None = None,
) -> list[Scoring]:
    """Return the tests of a command, weights loaded and episodes chosen.

    Args:
        config: of the command.
        world: the processes of the command.
        protocols: names of entries, which are there; none means ``test.protocol``.
        shots: numbers of supports; none means ``data.shot``.
        manifest: a file of episodes to replay.
        stored: the checkpoint, where it was read already.

    Raises:
        UserError: a protocol, a number of shots, the manifest, the checkpoint or the data does not fit.
    """
    names = list(dict.fromkeys(protocols or (config.test.protocol,)))
    different_shots = list(dict.fromkeys(shots or (config.data.shot,)))
    precision = precision_of_test(config, world.device)
    shared = Shared(stored)
    made = partial(Scoring, config, replayed=manifest, shared=shared, world=world, precision=precision)
    scorings = [made(name, shot) for shot, name in itertools.product(different_shots, names)]
    shared.stored = None  # its tensors are the networks' now
    return scorings
