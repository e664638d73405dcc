"""Plain rows: one a result, one an episode, whose columns and sums are those of the result."""

import csv
from pathlib import Path

import pytest

from tests.report.conftest import counts
from util.evaluate.mask_metrics import METRICS, Metric
from util.files.errors import UserError
from util.report.flat_tables import EPISODE_COLUMNS, RESULT_COLUMNS, add_to_file, episode_table, result_table

# Output and score of the rows of a table, for each number of shots


def rows_of(table) -> list[dict[str, str]]:
    return [dict(zip(table.header, row)) for row in table.rows]


def test_a_result_is_one_row(leave):
    runs = [
        leave(f"runs/{fold}", counts(1, 9, 0.5), fold=fold, environment={"commit": "0123456789"}) for fold in (1, 0)
    ]
    first, second = rows_of(result_table(runs))
    assert list(first) == RESULT_COLUMNS
    assert (first["fold"], second["fold"]) == ("0", "1")
    wanted = {"method": "Sym-Net", "miou": "50.00", "precision": "float32", "commit": "01234567", "date": "2026-11-20"}
    assert {name: first[name] for name in wanted} == wanted
    assert rows_of(result_table(runs, "meta"))[0]["miou"] == "55.00"


def test_an_episode_is_one_row_with_the_counts_of_its_file(leave):
    episodes = counts(1, 9, 0.5)
    run = leave("runs/a", episodes, novel={"1": "aeroplane"})
    rows = rows_of(episode_table([run]))
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
    rows = rows_of(episode_table([leave("runs/b", episodes)]))
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
    table = episode_table([measured, plain])
    assert table.header == [*EPISODE_COLUMNS, "hd95", "cldice", "width"]
    assert [row[-3:] for row in table.rows[:2]] == [["7.50", "25.00", "1.50"], ["8.50", "25.00", "1.50"]]
    assert table.rows[-1][-3:] == ["", "", ""]


def test_results_are_added_to_a_file_and_the_same_test_again_replaces_its_row(leave, tmp_path: Path):
    file = tmp_path / "results/pascal.csv"
    first, second = (leave(f"runs/{fold}", fold=fold) for fold in (0, 1))
    assert add_to_file(result_table([first]), file).endswith("rows: 1, new: 1")
    assert add_to_file(result_table([second]), file).endswith("rows: 2, new: 1")
    again = leave("runs/0", mean={"final": {"miou": 60.0, "fb_iou": 70.0}}, date="2026-11-26T10:00:00+00:00")
    assert add_to_file(result_table([again]), file).endswith("rows: 2, new: 0")
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["fold"], row["miou"], row["date"]) for row in rows] == [
        ("0", "60.00", "2026-11-26"),
        ("1", "50.00", "2026-11-20"),
    ]
    file.write_text("fold,miou\n0,1\n")
    with pytest.raises(UserError, match="has other columns"):
        add_to_file(result_table([first]), file)
    assert file.read_text() == "fold,miou\n0,1\n"


OTHER_TESTS = {
    "replay": {"replayed": "episodes.jsonl"},
    "quick": {"quick_look": True},
    "edges": {"edges": True},
    "last": {"weights_mark": "last"},
    "foreign a.pth": {"weights_mark": "foreign", "checkpoint": "a.pth"},
    "edges; replay; quick": {"edges": True, "replayed": "episodes.jsonl", "quick_look": True},
}


def test_what_departs_from_the_own_test_is_a_row_of_its_own(leave, tmp_path: Path):
    file = tmp_path / "results.csv"
    original = leave("runs/0", counts(1, 3, 0.5))
    others = [leave(f"runs/{mark}", counts(1, 3, 0.5), **changes) for mark, changes in OTHER_TESTS.items()]
    add_to_file(result_table([original]), file)
    assert add_to_file(result_table(others), file).endswith("rows: 7, new: 6")
    marks = ["", *OTHER_TESTS]
    with file.open() as lines:
        assert sorted(row["mark"] for row in csv.DictReader(lines)) == sorted(marks)
    first_episodes = [row for row in rows_of(episode_table([original, *others])) if row["number"] == "0"]
    assert sorted(row["mark"] for row in first_episodes) == sorted(marks)


@pytest.mark.parametrize("made", [result_table, episode_table])
def test_only_results_of_the_named_protocols_are_rows(leave, made):
    runs = [leave(f"runs/{name}", counts(1, 3, 0.5), protocol=name) for name in ("bam", "hsnet", "ssp")]
    protocols = {row["protocol"] for row in rows_of(made(runs, protocols=("ssp", "bam")))}
    assert protocols == {"bam", "ssp"}


def test_a_file_with_a_short_line_is_left_as_it_is(leave, tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    table = result_table([leave("runs/0")])
    add_to_file(table, file)
    content = file.read_text() + "mine\n"
    file.write_text(content)
    with pytest.raises(UserError, match="line 3 has 1 cells"):
        add_to_file(table, file)
    assert file.read_text() == content


@pytest.mark.parametrize("made", [result_table, episode_table])
def test_an_output_that_is_not_there_is_refused(leave, made):
    with pytest.raises(UserError, match="no output 'mta'; did you mean 'meta'"):
        made([leave("runs/a", counts(1, 3, 0.5))], "mta")
