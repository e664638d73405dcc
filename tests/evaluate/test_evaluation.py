"""The tester gives the same numbers whatever the batch, the workers and the processes, for any model."""

from __future__ import annotations

import torch

from model.episode import Output
from util.config.read import read_config
from util.evaluate.evaluate import Scoreboard, run_pass
from util.run.context import make_run_context
from util.run.data import images_for_test, training_size_episodes
from util.run.loading import evaluation_numbers
from util.run.network import prepare_network
from util.run.processes import World

ENCODER = {"encoder": {"backbone": "resnet18", "stem": "plain", "weights": None}}
BASELINE = "mini_split0_prototype_resnet10.yaml"


class Brightness(torch.nn.Module):
    """Not a few-shot model at all: calls bright pixels foreground. The tester must not care."""

    def forward(self, episode) -> Output:
        level = episode.query.float().mean(1)
        return Output(torch.stack([255 - level, level], dim=1))


def score(context, **options) -> dict:
    images = images_for_test(context, progress=False)
    data = training_size_episodes(context, images, context.config.protocols["symnet"], seed=0)
    world = World(0, 1, torch.device("cpu"))
    network = prepare_network(Brightness(), world.device)
    board = Scoreboard(8)
    run_pass(network, data, 13, [board], world, "test", **options)
    return board.gather(world)[0]


def test_batches_and_workers_change_nothing(mini_yaml):
    context = make_run_context(read_config(mini_yaml(BASELINE, model=ENCODER)))
    expected = score(context)
    assert expected["final"]["miou"] > 0
    assert score(context, batch=4) == expected
    assert score(context, batch=5, workers=2) == expected


def test_every_episode_is_evaluated_once():
    for processes in (1, 2, 3, 20):
        numbers = [n for r in range(processes) for b in evaluation_numbers(range(13), 4, r, processes) for n in b]
        assert sorted(numbers) == list(range(13))
