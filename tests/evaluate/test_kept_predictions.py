"""The predictions that pictures need: exactly the chosen episodes, from any number of processes, in bounded memory."""

import cv2
import numpy as np
import pytest
import torch

from util.evaluate.evaluate import FINAL
from util.evaluate.metrics import iou_of
from util.evaluate.pictures import KeptPredictions
from util.run.processes import World

EPISODES = {0: 40, 7: 25}


@pytest.mark.parametrize("wanted", [{"worst": 3, "best": 2, "random": 5}, {"random": 80}])
@pytest.mark.parametrize("processes", [1, 3])
def test_the_chosen_episodes_are_kept_with_their_predictions(wanted: dict[str, int], processes: int) -> None:
    random = np.random.default_rng(0)
    episodes = [(seed, n) for seed, length in EPISODES.items() for n in range(length)]
    records = {key: torch.tensor([[key[1], 1, random.integers(0, 5), 5, 0, 1]]) for key in episodes}  # many ties
    kept = {}
    for rank in range(processes):
        part = KeptPredictions(wanted, EPISODES)
        for seed, number in episodes[rank::processes]:
            of, prior = {FINAL: torch.full((1, 6, 8), number % 2)}, {"prior": torch.full((3, 4), seed / 8)}
            part.add(seed, number, {FINAL: records[seed, number]}, of, prior)
        own = part.gathered(World(0, 1, torch.device("cpu")))
        assert len(own) <= sum(wanted.values())
        kept |= own
    chosen = part.chosen({key: iou_of(rows.numpy()) for key, rows in records.items()})
    assert chosen == part.chosen({episode: found.ious[FINAL] for episode, found in kept.items()})
    for seed, number in chosen:
        mask = cv2.imdecode(kept[seed, number].predictions[FINAL], cv2.IMREAD_UNCHANGED)
        prior = kept[seed, number].maps["prior"]
        assert mask.shape == (6, 8) and mask.dtype == np.uint8 and (mask == number % 2).all()
        assert prior.shape == (3, 4) and (prior == seed / 8).all()
