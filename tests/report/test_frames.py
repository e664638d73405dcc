"""Plain rows: one a result, one an episode, whose columns and sums are those of the result."""

import pytest

from tests.report.conftest import counts
from util.files.errors import UserError
from util.loop.mask_metrics import METRICS, Metric
from util.report.frames import EPISODE_COLUMNS, RESULT_COLUMNS, episode_rows, result_rows, results

# Output and score of the rows of a table, for each number of shots


def rows_of(table) -> list[dict[str, str]]:
    return [dict(zip(table.header, row)) for row in table.rows]


def test_a_result_is_one_row(leave):
    runs = [
        leave(f"runs/{fold}", counts(1, 9, 0.5), fold=fold, environment={"commit": "0123456789"}) for fold in (1, 0)
    ]
    first, second = rows_of(result_rows(runs))
    assert list(first) == RESULT_COLUMNS
    assert (first["fold"], second["fold"]) == ("0", "1")
    wanted = {"method": "Sym-Net", "miou": "50.00", "precision": "float32", "commit": "01234567", "date": "2026-11-20"}
    assert {name: first[name] for name in wanted} == wanted
    assert rows_of(result_rows(runs, "meta"))[0]["miou"] == "55.00"


def test_an_episode_is_one_row_with_the_counts_of_its_file(leave):
    episodes = counts(1, 9, 0.5)
    run = leave("runs/a", episodes, novel={"1": "aeroplane"})
    rows = rows_of(episode_rows([run]))
    assert list(rows[0]) == EPISODE_COLUMNS
    for row, episode in zip(rows, episodes, strict=True):
        intersection, union, *_ = episode["outputs"]["final"]
        assert (row["intersection"], row["union"]) == (str(intersection), str(union))
        assert float(row["iou"]) == pytest.approx(100 * intersection / union, abs=0.01)
        assert [row["query"], row["supports"]] == [episode["query"], *episode["supports"]]


def test_each_class_of_an_episode_is_a_row(leave):
    episodes = counts(2, 3, 0.5)
    for episode in episodes:
        episode["others"] = [{"class": 9, "supports": ["other"]}]
        episode["outputs"]["final"] = [10, 20, 30, 60, 40, 80, 5000, 6000]
    rows = rows_of(episode_rows([leave("runs/b", episodes)]))
    assert [(row["class"], row["iou"]) for row in rows[1::2]] == [("9", "50.00")] * 3
    assert rows[1]["supports"] == "other"


def test_further_metrics_of_episodes_are_columns_in_their_units(leave, monkeypatch):
    """Also a metric of one's own, of pixels of which more are better; one that is no metric any more has no column."""
    monkeypatch.setitem(METRICS, "width", Metric("width px", lambda *_: (1.0, 1), scale=1))
    episodes = counts(1, 3, 0.5)
    for number, episode in enumerate(episodes):
        episode["cldice"] = {"final": [0.25, 1]}
        episode["hd95"] = {"final": [7.5 + number, 1]}
        episode["width"] = {"final": [3, 2]}
    measured = leave("runs/a", episodes, config={"test": {"metrics": ["cldice", "hd95", "width", "removed"]}})
    plain = leave("runs/b", counts(1, 3, 0.5))
    table = episode_rows([measured, plain])
    assert table.header == [*EPISODE_COLUMNS, "hd95", "cldice", "width"]
    assert [row[-3:] for row in table.rows[:2]] == [["7.50", "25.00", "1.50"], ["8.50", "25.00", "1.50"]]
    assert table.rows[-1][-3:] == ["", "", ""]


OTHER_TESTS = {
    "replay": {"replayed": "episodes.jsonl"},
    "quick": {"quick_look": True},
    "edges": {"edges": True},
    "last": {"weights_mark": "last"},
    "foreign a.pth": {"weights_mark": "foreign", "checkpoint": "a.pth"},
    "edges; replay; quick": {"edges": True, "replayed": "episodes.jsonl", "quick_look": True},
}


def test_frames_mark_tests_that_differ_from_the_runs_own(leave):
    original = leave("runs/0", counts(1, 3, 0.5))
    others = [leave(f"runs/{mark}", counts(1, 3, 0.5), **changes) for mark, changes in OTHER_TESTS.items()]
    marks = sorted(["", *OTHER_TESTS])
    assert sorted(row["mark"] for row in rows_of(result_rows([original, *others]))) == marks
    first_episodes = [row for row in rows_of(episode_rows([original, *others])) if row["number"] == "0"]
    assert sorted(row["mark"] for row in first_episodes) == marks


def test_every_score_is_a_line_of_a_frame(leave) -> None:
    seeds = [{"final": {"miou": 50.0 + s, "fb_iou": 70.0, "per_class": {"1": 50.0 + s}}} for s in (0, 1)]
    runs = [leave(f"runs/{fold}", fold=fold, per_seed=seeds, seeds=[0, 1]) for fold in (0, 1)]
    scores = results([str(run) for run in runs])
    assert len(scores) == 2 * 2 * 3
    miou = scores[(scores["score"] == "miou") & (scores["class"] == "")]
    assert miou.groupby(["row", "fold"])["value"].mean().to_dict() == dict.fromkeys(
        [("Sym-Net ResNet-50", 0), ("Sym-Net ResNet-50", 1)], 50.5
    )
    assert set(scores.loc[scores["class"] == "aeroplane", "score"]) == {"miou"}
    with pytest.raises(UserError, match="no result of protocol hsnt"):
        results(runs, ["hsnt"])


@pytest.mark.parametrize("made", [result_rows, episode_rows])
def test_only_results_of_the_named_protocols_are_rows(leave, made):
    runs = [leave(f"runs/{name}", counts(1, 3, 0.5), protocol=name) for name in ("bam", "hsnet", "ssp")]
    protocols = {row["protocol"] for row in rows_of(made(runs, protocols=("ssp", "bam")))}
    assert protocols == {"bam", "ssp"}


@pytest.mark.parametrize("made", [result_rows, episode_rows])
def test_an_output_that_is_not_there_is_refused(leave, made):
    with pytest.raises(UserError, match="no output 'mta'; did you mean 'meta'"):
        made([leave("runs/a", counts(1, 3, 0.5))], "mta")
