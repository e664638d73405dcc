"""The edges of the photo in tests, and what results say of them."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from model.trial import collate
from tests.evaluate.quick import lines
from tests.helpers.close import close
from tests.helpers.scored import score
from util.config.read import read_config
from util.data.episodes import TrialDataset
from util.evaluate import refine, store
from util.evaluate.refine import WithEdges, refined
from util.evaluate.scoring import Scoring, scorings_of
from util.loop.processes import ProcessGroup
from util.run.data import trials

pytestmark = pytest.mark.train

WORLD = ProcessGroup(0, 1, torch.device("cpu"))
QUICK = {"checkpoint": "none", "episodes": 4, "seeds": [0], "batch": 2}


@pytest.fixture
def config(mini_yaml):
    """Return a function that gives a config over the tiny data set, with overrides."""

    def make(name: str = "prototype", *overrides: str, **sections: dict):
        path = mini_yaml(name, **{"run": {"base_folder": None}, "test": QUICK} | sections)
        return read_config(path, list(overrides))

    return make


def trials_of(scoring: Scoring) -> TrialDataset:
    """Return the episodes of a job's first seed."""
    evaluation = scoring.evaluation
    return trials(evaluation.run, evaluation.samplers[0], evaluation.view, (evaluation.scored_on,))


def test_the_store_changes_no_count(config, tmp_path: Path, capfd, monkeypatch) -> None:
    overrides = ("test.batch=1", "test.episodes=6", "test.edges=true", "data.shot=2")
    folder = tmp_path / "runs/tiny/test_2shot/symnet_edges_quick"
    with monkeypatch.context() as patched:
        patched.setattr(store, "FREE_SHARE", 0)  # it keeps nothing
        score(config("prototype", *overrides))
    expected = lines(folder)
    score(config("prototype", *overrides))
    assert lines(folder) == expected
    printed = "".join(capfd.readouterr())
    without, from_store = re.findall(r"seed 0: (\d+) supports from the store", printed)
    assert int(without) == 0 < int(from_store)


def test_edge_refinement_changes_each_classs_margin_and_keeps_the_networks(config) -> None:
    (scoring,) = scorings_of(config("prototype", "test.batch=2"), WORLD, ("2way",))
    data = trials_of(scoring)
    ways = collate([data[0], data[1]]).ways
    network = scoring.prepared.network.eval()
    with torch.inference_mode():
        before = network.forward_classes(ways).logits
        output = WithEdges(network).forward_classes(ways)
    assert close(output.extra["network"], before)
    photo = ways[0].query[1].byte().permute(1, 2, 0).numpy()
    margins = before[1, 1:] - before[1, :1]
    expected = torch.from_numpy(refined(photo, margins.numpy()))
    after = output.logits[1, 1:] - output.logits[1, :1]
    assert torch.allclose(after, expected, atol=1e-5)
    assert len(expected) == 2
    assert not torch.allclose(expected, margins, atol=1e-2)


@pytest.mark.process
def test_edges_refined_in_other_processes_are_the_same(monkeypatch) -> None:
    random = np.random.default_rng(0)
    photos = list(random.integers(0, 255, (refine.MANY, 30, 40, 3), np.uint8))
    margins = list(random.standard_normal((refine.MANY, 1, 30, 40), np.float32))
    monkeypatch.setattr(refine, "usable_cores", lambda: refine.MANY)
    monkeypatch.setattr(refine, "MOST_PROCESSES", 1)
    from_processes = refine.refined_photos(photos, margins)
    assert refine._processes.cache_info().currsize == 1
    for refined_margins, photo, margin in zip(from_processes, photos, margins, strict=True):
        assert close(refined_margins, refined(photo, margin))


def test_presence_scores_are_of_the_network_without_edges(config, tmp_path: Path) -> None:
    score(config("prototype"), ["presence"])
    score(config("prototype", "test.edges=true"), ["presence"])
    before = lines(tmp_path / "runs/tiny/test/presence_quick")
    after = lines(tmp_path / "runs/tiny/test/presence_edges_quick")
    assert close([episode["presence"] for episode in after], [episode["presence"] for episode in before])
    assert [episode["outputs"]["final"] for episode in before] != [episode["outputs"]["final"] for episode in after]
