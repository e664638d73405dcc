"""Plain rows: one a result, one an episode, whose columns and sums are those of the result."""

import pytest

from tests.report.conftest import counts
from util.errors import UserError
from util.report.flat_tables import EPISODE_COLUMNS, RESULT_COLUMNS, episode_table, result_table


def rows_of(table) -> list[dict[str, str]]:
    return [dict(zip(table.header, row)) for row in table.rows]


def test_a_result_is_one_row(leave):
    runs = [
        leave(f"runs/{fold}", counts(1, 9, 0.5), fold=fold, environment={"commit": "0123456789"}) for fold in (1, 0)
    ]
    first, second = rows_of(result_table(runs))
    assert list(first) == RESULT_COLUMNS
    assert (first["fold"], second["fold"]) == ("0", "1")
    assert first["method"] == "Sym-Net" and first["miou"] == "50.00" and first["precision"] == "float32"
    assert first["commit"] == "01234567" and first["date"] == "2026-11-20"
    assert rows_of(result_table(runs, "meta"))[0]["miou"] == "55.00"


def test_an_episode_is_one_row_for_each_class_with_the_counts_of_its_file(leave):
    episodes = counts(1, 9, 0.5)
    run = leave("runs/a", episodes, novel={"1": "aeroplane"})
    rows = rows_of(episode_table([run]))
    assert len(rows) == 9 and list(rows[0]) == EPISODE_COLUMNS
    for row, episode in zip(rows, episodes):
        intersection, union, *_ = episode["outputs"]["final"]
        assert (row["intersection"], row["union"]) == (str(intersection), str(union))
        assert float(row["iou"]) == pytest.approx(100 * intersection / union, abs=0.01)
        assert row["query"] == episode["query"] and row["supports"] == episode["supports"][0]
    several = counts(2, 3, 0.5)
    for episode in several:
        episode["others"] = [{"class": 9, "supports": ["other"]}]
        episode["outputs"]["final"] = [10, 20, 30, 60, 40, 80, 5000, 6000]
    found = rows_of(episode_table([leave("runs/b", several)]))
    assert [(row["class"], row["iou"]) for row in found[1::2]] == [("9", "50.00")] * 3
    assert found[1]["supports"] == "other"


@pytest.mark.parametrize("made", [result_table, episode_table])
def test_an_output_that_is_not_there_is_refused(leave, made):
    with pytest.raises(UserError, match="no output 'mta'; did you mean 'meta'"):
        made([leave("runs/a", counts(1, 3, 0.5))], "mta")
