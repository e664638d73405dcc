"""Paired comparison: the right difference, an interval that covers, noise called noise, other episodes refused."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from tests.report.conftest import counts
from util.errors import UserError
from util.evaluate.metrics import BinaryCounts
from util.report.charts import running_miou
from util.report.compare import compare, difference, read_scored


def miou(episodes: list[dict]) -> float:
    """Recount with plain sums."""
    per_class = []
    for c in {e["class"] for e in episodes}:
        rows = [e["outputs"]["final"] for e in episodes if e["class"] == c]
        per_class.append(100 * sum(r[0] for r in rows) / sum(r[1] for r in rows))
    return sum(per_class) / len(per_class)


def test_the_difference_is_that_of_summed_counts(leave):
    a, b = counts(1, 90, 0.5), counts(2, 90, 0.6)
    d = difference(*(read_scored(leave(n, e), "final") for n, e in (("a", a), ("b", b))))
    assert (d.a, d.b, d.episodes) == (pytest.approx(miou(a)), pytest.approx(miou(b)), 90)
    assert d.low < d.b - d.a < d.high and not d.within_noise
    text = compare(leave("c", a), leave("d", b))
    assert f"B - A = {d.b - d.a:+.2f}" in text and "beyond the noise" in text


def test_the_interval_is_as_wide_as_theory_says(leave):
    """One class, equal unions: mIoU is a mean of shares, its deviation known."""
    a, b = counts(3, 400, 0.4), counts(4, 400, 0.5)
    for e in (*a, *b):
        e["class"] = 1
    d = difference(*(read_scored(leave(n, e), "final") for n, e in (("a", a), ("b", b))))
    shares = [np.array([e["outputs"]["final"][0] / 10 for e in side]) for side in (a, b)]
    expected = 2 * 1.96 * (shares[1] - shares[0]).std() / np.sqrt(400)
    assert d.high - d.low == pytest.approx(expected, rel=0.1)


def test_results_comparisons_and_curves_have_one_miou(leave):
    """A class of episodes without a pixel of foreground counts with an IoU of 0 in all three."""
    episodes = counts(11, 9, 0.5)
    for e in episodes:
        if e["class"] == 3:
            e["outputs"]["final"] = [0, 0, 6000, 6000]
    rows = np.array([[e["number"], e["class"], *e["outputs"]["final"]] for e in episodes])
    board = BinaryCounts.zeros(3, torch.device("cpu"))
    class_id, intersection, union = torch.tensor(rows[:, 1:4]).T
    board.add_classes(intersection, union, class_id)
    scored = read_scored(leave("a", episodes), "final")
    found = board.scores()["miou"], difference(scored, scored).a, running_miou(rows)[-1]
    assert found == (pytest.approx(found[0]),) * 3 and sorted(board.scores()["per_class"]) == [1, 2, 3]


def test_training_runs_are_compared_by_their_mean(leave):
    """Two pairs: the difference is the mean of theirs, and repeats of a pair tell no more than it does."""
    sides = [counts(20 + i, 90, skill) for i, skill in enumerate((0.4, 0.6, 0.5, 0.55))]
    runs = [leave(f"run{i}", e) for i, e in enumerate(sides)]
    text = compare(*runs).splitlines()
    each = [miou(b) - miou(a) for a, b in (sides[:2], sides[2:])]
    assert [line.split()[0] for line in text if line.startswith("   ")] == [f"{d:+.2f}" for d in each]
    assert f"B - A = {sum(each) / 2:+.2f} mIoU points of the final output, mean of 2 pairs" in "\n".join(text)
    widths = []
    for pairs in (1, 3):
        [interval] = re.findall(r"95 % interval \[(.*), (.*)\]", compare(*runs[:2] * pairs))
        widths.append(float(interval[1]) - float(interval[0]))
    assert widths[0] == pytest.approx(widths[1], abs=0.02) and widths[0] > 1


def test_other_episodes_are_refused(leave, tmp_path):
    episodes = counts(6, 30, 0.5)
    first = leave("a", episodes)
    with pytest.raises(UserError, match=r"has 30 episodes, .* has 29; score both on the same: test.py --manifest"):
        compare(first, leave("b", episodes[:-1]))
    other = json.loads(json.dumps(episodes))
    other[4]["supports"] = ["photo99"]
    with pytest.raises(UserError, match=r"differ in episode 4 .*photo99"):
        compare(first, leave("c", other))


def test_what_cannot_be_compared_is_named(leave, tmp_path):
    first = leave("a", counts(7, 5, 0.5))
    with pytest.raises(UserError, match="output 'finall' is unknown; did you mean 'final'"):
        compare(first, first, output="finall")
    with pytest.raises(UserError, match=r"no result.json here"):
        (tmp_path / "empty").mkdir()
        compare(first, tmp_path / "empty")
    leave("many/x"), leave("many/y")
    with pytest.raises(UserError, match="holds 2 results; name one of them"):
        compare(first, tmp_path / "many")
    bare = [{k: v for k, v in e.items() if k != "outputs"} for e in counts(7, 5, 0.5)]
    with pytest.raises(UserError, match=r"episodes.jsonl:2: this episode was not scored"):
        compare(first, leave("b", bare))
