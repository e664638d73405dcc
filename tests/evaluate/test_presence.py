"""Calibration on base classes, and tests whose queries may lack their class."""

import dataclasses
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.evaluate.quick import PROTOTYPE, lines
from tests.model.small import drawn_episode, small_model
from util.checkpoints.checkpoint import digest_of
from util.checkpoints.run import TRAINING_FREE
from util.checkpoints.weights import fill_encoder
from util.config.read import read_config
from util.errors import UserError
from util.evaluate.calibrate import calibrate, fit_logistic
from util.evaluate.calibration import FILE, SHIPPED, Calibration, find_calibration, presence_scores, sigmoid
from util.evaluate.testing import test as score
from util.evaluate.verify import AGREES, DIFFERS, checks_of
from util.report.result_table import score_table
from util.report.schema import RESULT, read_result
from util.runtime.context import make_run_context
from util.runtime.network import build_model

EPISODES = 40
QUICK = {"checkpoint": "none", "episodes": EPISODES, "seeds": [0], "pictures": 0}


def test_the_regression_is_where_its_gradient_vanishes_and_tells_probabilities() -> None:
    random = np.random.default_rng(0)
    x = random.normal([3, -50], [0.1, 20], (4000, 2))
    true = 1 / (1 + np.exp(-(8 * (x[:, 0] - 3) - 0.05 * (x[:, 1] + 50) + 0.5)))
    y = random.random(len(x)) < true
    weights, bias = fit_logistic(x, y)
    found = np.array([sigmoid(z) for z in x @ weights + bias])
    assert abs(found - true).max() < 0.05 and found.mean() == pytest.approx(y.mean(), abs=1e-3)
    assert sigmoid(-1e4) == 0 and sigmoid(1e4) == 1


def test_scores_of_presence_equal_a_recount_of_pairs() -> None:
    random = np.random.default_rng(1)
    present, ranks = random.random(40) < 0.4, random.integers(0, 12, 40)
    found = presence_scores(present.tolist(), ranks.tolist(), (ranks > 5).tolist())
    pairs = list(itertools.product(ranks[present], ranks[~present]))
    assert found["presence_auroc"] == pytest.approx(100 * np.mean([(a > b) + (a == b) / 2 for a, b in pairs]))
    assert found["presence_accuracy"] == pytest.approx(100 * np.mean((ranks > 5) == present))
    assert "presence_auroc" not in presence_scores([True], [1.0], [True])


@pytest.mark.train
def test_a_calibration_is_made_on_training_images_and_taken_by_the_test(
    mini_yaml, tmp_path: Path, capsys, caplog
) -> None:
    path = mini_yaml(PROTOTYPE, test=QUICK)
    plain = score(read_config(path), ("presence",))[0]
    assert plain["calibration"] is None and "always_shown" not in plain["mean"]
    no_list = ["data.test_list=no_such_list.txt", "test.episodes=160"]  # no test image is read
    made = calibrate(read_config(path, no_list))
    assert made == tmp_path / "runs/tiny" / FILE
    assert f"calibration: {made}" in (said := capsys.readouterr().out) and "presence accuracy" in said
    known = Calibration(**yaml.safe_load(made.read_text()))
    assert known.scale > 0 and len(known.weights) == 6 and "base classes of fold 0, 160 episodes" in known.made_on
    assert known.precision == "float32"
    other = find_calibration(read_config(path), TRAINING_FREE, plain["weights"], "bf16")
    assert other == known and f"{made}: was made in float32, this computes in bf16; make it again" in caplog.text
    result = score(read_config(path, ["test.batch=3", "test.cache_gib=1"]), ("presence",))[0]
    folder = tmp_path / "runs/tiny/test/presence_quick"
    assert {outcome for outcome, _ in checks_of(folder / RESULT, result).values()} == {AGREES}
    of_seed = result["per_seed"][0]["final"]
    wrong = result | {"per_seed": [result["per_seed"][0] | {"final": of_seed | {"presence_accuracy": 97.0}}]}
    assert checks_of(folder / RESULT, wrong)["scores"][0] == DIFFERS
    assert read_result(folder / "result.json") == result and result["calibration"] == known.facts()
    assert result["mean"]["always_shown"]["miou"] == plain["mean"]["final"]["miou"]
    assert "AUROC" in str(score_table(result)) and result["episode_digests"] == plain["episode_digests"]
    episodes = lines(folder)
    present = [e["outputs"]["all_foreground"][0] > 0 for e in episodes]
    assert 10 < sum(present) < 30
    for episode in episodes:
        hidden = episode["presence"] < known.threshold
        final = episode["outputs"]["final"]
        assert final[0] == 0 if hidden else final == episode["outputs"]["always_shown"]
    shown = [e["presence"] >= known.threshold and e["outputs"]["always_shown"][1] > 0 for e in episodes]
    final = result["mean"]["final"]
    assert final["presence_accuracy"] == pytest.approx(100 * np.mean(np.array(shown) == present), abs=10)
    replayed = score(read_config(path), ("presence",), manifest=folder / "episodes.jsonl")[0]
    assert replayed["per_seed"] == result["per_seed"]
    with pytest.raises(UserError, match=r"'.*' shows no pixel of class"):
        score(read_config(path), ("symnet",), manifest=folder / "episodes.jsonl")


@torch.no_grad()
def test_a_base_learner_does_not_claim_a_class_that_plays_a_novel_one() -> None:
    network, episode = small_model("symnet", 1), drawn_episode("symnet", 1, batch=1)
    claimed = network(episode)
    free = network(dataclasses.replace(episode, left_out=episode.base_id))
    assert not torch.equal(free.logits, claimed.logits) and torch.equal(free.base_logits, claimed.base_logits)


CALIBRATED = sorted(path.stem.removesuffix("_lite0") for path in SHIPPED.glob("*_lite0.yaml"))


@pytest.mark.parametrize(("model", "other"), list(zip(CALIBRATED, reversed(CALIBRATED))))
def test_calibrations_of_lite0_are_shipped(model: str, other: str, tmp_path: Path, caplog) -> None:
    """Another image size or stage: the calibration belongs to the weights and the model's settings alone."""
    path, sizes = f"config/pascal/pascal_split0_{model}_lite0.yaml", ["run.folder=/no/folder", "data.size=33"]
    context = make_run_context(read_config(path, sizes))
    network = build_model(context.config, context.text_width)
    fill_encoder(context.config, network)
    digest = digest_of(network.state_dict())
    found = find_calibration(context.config, "training-free", digest)
    assert found is not None and found.model == network.title
    assert find_calibration(read_config(path, [*sizes, "model.stage=4"]), "training-free", digest) is None
    (tmp_path / FILE).write_text((SHIPPED / f"{other}_lite0.yaml").read_text())
    stale = read_config(path, [f"run.folder={tmp_path.parent}", f"run.name={tmp_path.name}"])
    assert find_calibration(stale, "training-free", digest) == found and not caplog.records
    assert find_calibration(stale, "training-free", "other weights") is None
    (tmp_path / FILE).write_text("calibration: sym-net-calibration/1\nweights: many\n")
    with pytest.raises(UserError, match=re.escape(str(tmp_path / FILE)) + ".*weights = 'many' must be"):
        find_calibration(stale, "training-free", digest)
