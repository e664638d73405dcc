"""The tests of a command: each protocol with each number of shots, its network and its counts.

A mistake in weights, lists or episodes is found here, before any episode is scored.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from util.config.settings import Config
from util.data.episodes import Sampler
from util.evaluate.evaluation import Evaluation, Shared
from util.loop.network import PreparedNetwork, prepare_network
from util.loop.processes import ProcessGroup
from util.loop.score import Scoreboard
from util.run.build import precision_of_test
from util.run.data import sources_of
from util.weights.checkpoint import Checkpoint


@dataclass(eq=False)
class Scoring:
    """A test on a device, and what has been counted of it."""

    evaluation: Evaluation
    prepared: PreparedNetwork  # for the view's image side
    boards: dict[int, Scoreboard]  # the counts, by seed
    seconds: float = 0.0
    batch: int = 1  # episodes at a time


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
    scorings = list[Scoring]()
    for shot, name in itertools.product(different_shots, names):
        evaluation = Evaluation.of(config, name, shot, replayed=manifest, progress=world.is_main, shared=shared)
        prepared = prepare_network(evaluation.loaded.network, world.device, precision)
        world.from_main(partial(_read_list, evaluation))
        boards = {seed: _board(evaluation, sampler) for seed, sampler in evaluation.samplers.items()}
        scorings.append(Scoring(evaluation, prepared, boards))
    shared.stored = None  # its tensors are the networks' now
    return scorings


def _read_list(evaluation: Evaluation) -> None:
    """Read a list, whose index may have to be built; UserError: the first photo lacks a modality."""
    sources_of(evaluation.run, evaluation.images)


def _board(evaluation: Evaluation, sampler: Sampler) -> Scoreboard:
    """Return what counts the episodes of a seed of a test."""
    names = evaluation.images.index.names
    return Scoreboard(
        classes=len(evaluation.config.data.classes),
        further=evaluation.config.test.metrics,
        query_of=lambda number: names[sampler(number).query],
    )
