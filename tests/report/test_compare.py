"""Paired comparison: the right difference, an interval that covers, noise called noise, other episodes refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.report.conftest import ENTRY, counts
from util.files.errors import UserError
from util.loop.metrics import episode_scores
from util.report.compare import Compared, compare, difference, read_scored


def miou(episodes: list[dict]) -> float:
    """Recount with plain sums."""
    per_class = []
    for c in {e["class"] for e in episodes}:
        counts_of_class = [e["outputs"]["final"] for e in episodes if e["class"] == c]
        per_class.append(100 * sum(row[0] for row in counts_of_class) / sum(row[1] for row in counts_of_class))
    return sum(per_class) / len(per_class)


@pytest.fixture
def scored(leave):
    """Return a function from lists of episodes to what ``difference`` takes."""

    def read(*sides: list[dict]) -> list[list[Compared]]:
        return [[read_scored(leave(f"side{i}", episodes), "final")] for i, episodes in enumerate(sides)]

    return read


def test_the_difference_is_that_of_summed_counts(leave, scored):
    a, b = counts(1, 90, 0.6), counts(2, 90, 0.5)
    of_a, of_b, low, high = difference(*scored(a, b))
    assert (of_a, of_b) == (pytest.approx(miou(a)), pytest.approx(miou(b)))
    assert 0 < low < of_a - of_b < high
    text = str(compare(leave("c", a), leave("d", b)))
    for said in (f"A - B = {of_a - of_b:+.2f}", "90 query images", "the interval excludes 0"):
        assert said in text


def test_the_interval_is_as_wide_as_theory_says(scored):
    """Of one class with equal unions mIoU is a mean of shares, whose deviation is known."""
    a, b = counts(3, 400, 0.4), counts(4, 400, 0.5)
    for episode in (*a, *b):
        episode["class"] = 1
    *_, low, high = difference(*scored(a, b))
    gains = [100 * (share(of_a) - share(of_b)) for of_a, of_b in zip(a, b)]
    assert high - low == pytest.approx(2 * 1.96 * np.std(gains) / np.sqrt(400), rel=0.1)


def share(episode: dict) -> float:
    intersection, union, *_ = episode["outputs"]["final"]
    return intersection / union


def test_results_and_comparisons_have_one_miou(scored):
    """A class of episodes without a pixel of foreground counts with an IoU of 0 in both."""
    episodes = counts(11, 9, 0.5)
    for e in episodes:
        if e["class"] == 3:
            e["outputs"]["final"] = [0, 0, 6000, 6000]
    rows = np.array([[e["number"], e["class"], *e["outputs"]["final"]] for e in episodes])
    scores = episode_scores(np.hstack([rows, rows[:, 2:4]]), 3)
    [side] = scored(episodes)
    assert list(scores["per_class"]) == ["1", "2", "3"]
    assert difference(side, side).a == pytest.approx(scores["miou"])


def test_systems_are_named_by_their_rows_and_results_by_their_titles(leave):
    runs = [leave("a", counts(5, 9, 0.6), quick_look=True), leave("b", counts(5, 9, 0.6), model="prototype")]
    compared = compare(*runs)
    assert compared.header[1:4] == ["A: Sym-Net ResNet-50", "B: prototype baseline ResNet-50", "A - B"]
    assert "A - B = +0.00 mIoU points" in str(compared)
    assert compared.notes[0].startswith(f"A: {runs[0]}/result.json: QUICK LOOK (1000 of 1000 episodes): bam (")


def test_training_runs_are_compared_by_their_mean(leave):
    """Two pairs: the difference is the mean of theirs."""
    sides = [counts(20 + i, 90, skill) for i, skill in enumerate((0.4, 0.6, 0.5, 0.55))]
    compared = compare(*(leave(f"run{i}", side) for i, side in enumerate(sides)))
    first, second = miou(sides[0]) - miou(sides[1]), miou(sides[2]) - miou(sides[3])
    gains = first, second, (first + second) / 2
    assert [row[3] for row in compared.rows] == [f"{gain:+.2f}" for gain in gains]
    assert f"A - B = {gains[2]:+.2f} mIoU points of the final output, mean of 2 pairs" in str(compared)
    assert f"\npair 1,{miou(sides[0]):.2f}," in f"{compared:csv}"
    assert "; and over trainings, by Student's t)" in str(compared)
    assert r"mIoU \% & A: Sym-Net ResNet-50 & B: Sym-Net ResNet-50 & A - B" in f"{compared:latex}"


def test_the_interval_has_the_spread_of_trainings(leave):
    """Episodes tell much here: what is left is Student's t of three trainings of each, times their standard error."""
    skills = np.array([[0.3, 0.5, 0.4], [0.35, 0.6, 0.4]])
    runs = [leave(f"run{i}", counts(20 + i, 900, skill)) for i, skill in enumerate(skills.T.flat)]
    error = 100 * np.sqrt(skills.var(axis=1, ddof=1).sum() / 3)
    assert width_of_interval(*runs) == pytest.approx(2 * 2.776 * error, rel=0.15)
    assert compare(*runs).notes[-1] == "not significant: the interval contains 0"
    assert width_of_interval(*runs[:2]) == pytest.approx(width_of_interval(*runs[:2] * 3), abs=0.02)


def width_of_interval(*runs: Path) -> float:
    *_, low, high = compare(*runs).rows[-1]
    return float(high) - float(low)


def test_outputs_of_one_result_are_compared_and_a_result_beside_itself_is_said(leave):
    path = leave("e", counts(5, 60, 0.6))
    *_, difference, verdict = compare(path, path, output="meta:final").notes
    assert "mIoU points of the outputs (meta, final), " in difference
    assert verdict == ALONE
    assert compare(path, path).notes[-1] == "no difference in any sample: are A and B one result, or a copy of it?"


ALONE = "significant for these networks, the interval excludes 0; how much trainings vary is not in it"
NO_METHODS = "no difference between methods: the interval excludes 0 for networks of one method alone"
SCORED = "no verdict on the systems, which were scored differently"


def stage(**changes) -> dict:
    return {"training": [{"stage": "meta", "steps": 500, "batch": 4, "size": 81, "settings": {}, "seed": 1} | changes]}


@pytest.mark.parametrize(
    ("first", "second", "said", "verdict"),
    [
        ({}, {}, "", ALONE),
        ({}, {"content": "12" * 32}, "", f"{SCORED} (photos or masks of the same names: efef"),
        ({}, {"protocol": "ssp"}, "", f"{SCORED} (protocols: bam; ssp)"),
        ({}, {"fold_rule": "interleaved"}, "", f"{SCORED} (fold rules: contiguous; interleaved)"),
        ({}, {"scored_on": "original"}, "", f"{SCORED} (masks: square; original size)"),
        ({}, {"precision": "bf16"}, "", f"{SCORED} (precisions: float32; bf16)"),
        ({"label_side": 81}, {"label_side": 161}, "", f"{SCORED} (sides of the masks: 81; 161)"),
        ({"label_side": 81}, {}, "", ALONE),
        ({"input_side": 81}, {"input_side": 161}, "different image sides: 81; 161", ALONE),
        ({"input_side": 81}, {"input_side": None}, "", ALONE),
        (stage(), stage(steps=5), "trainings: meta stage 500 steps with batch 4; meta stage 5 steps", ALONE),
        (stage(), stage(seed=2), "the runs differ in training seeds alone (1; 2)", NO_METHODS),
        ({"code": {"a": "1"}}, {"code": {"a": "2"}, "weights": "cd" * 32}, "in weights (abab", ALONE),
        (stage(), stage(seed=2, settings={"lr": 1}), "", ALONE),
        ({}, {"weights": "cd" * 32}, "differ in weights alone (abab", NO_METHODS),
        ({}, {"weights": "cd" * 32, "model": "prototype"}, "", ALONE),
        (stage(), {}, "", ALONE),
    ],
)
def test_what_else_differs_is_said_and_other_scoring_gets_no_verdict(leave, first, second, said, verdict):
    notes = compare(leave("a", counts(1, 90, 0.6), **first), leave("b", counts(2, 90, 0.5), **second)).notes
    beside = [note for note in notes if note.startswith("note: ")]
    assert [said in note for note in beside] == [True] * bool(said)
    assert notes[-1].startswith(verdict)


def test_other_episodes_outputs_or_several_results_are_refused(leave, tmp_path):
    episodes = counts(6, 30, 0.5)
    first, fewer = leave("a", episodes), leave("b", episodes[:-1])
    other = json.loads(json.dumps(episodes))
    other[4]["supports"] = ["photo99"]
    published = leave("d", episodes, protocol_settings={**ENTRY, "draw": "pfenet"})
    for second, output, place in (
        (fewer, "final", "differ from number 29 on"),
        (leave("c", other), "final", "number 4"),
        (tmp_path, "final", str(first)),
        (first, "finall", "episodes.jsonl:2: .*'final'"),
    ):
        with pytest.raises(UserError, match=place):
            compare(first, second, output=output)
    with pytest.raises(UserError, match=r"published episodes.*\) and .*b/result.json \(bam .*\) differ"):
        compare(published, fewer)
