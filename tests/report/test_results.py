"""The frame of results, the tables of single ones, and a row for each result."""

from pathlib import Path

import pytest

from tests.report.conftest import HD95, result
from util.evaluate.titles import classes_in_no_mean, title
from util.files.errors import UserError
from util.report.frame import results
from util.report.provenance import how_made, stages_text
from util.report.row import Row
from util.report.tables import RESULT_COLUMNS, fitted, result_table, score_table


def test_every_score_is_a_row_of_the_frame(leave) -> None:
    """With title, unit and direction of a metric that is not registered here."""
    seeds = [{"final": {"miou": 50.0 + s, "hd95": 4.0, "per_class": {"1": 50.0 + s}}} for s in (0, 1)]
    runs = [leave(f"runs/{fold}", fold=fold, per_seed=seeds, seeds=[0, 1], metrics=HD95) for fold in (0, 1)]
    frame = results([str(run) for run in runs])
    assert len(frame) == 2 * 2 * 3
    miou = frame[(frame["score"] == "miou") & (frame["class"] == "")]
    assert miou.groupby(["row", "fold"])["value"].mean().to_dict() == dict.fromkeys(
        [("Sym-Net ResNet-50", 0), ("Sym-Net ResNet-50", 1)], 50.5
    )
    assert set(frame.loc[frame["class"] == "aeroplane", "score"]) == {"miou"}
    hd95 = frame[frame["score"] == "hd95"].iloc[0]
    assert (hd95["title"], hd95["unit"], hd95["smaller_is_better"], hd95["content"]) == ("HD95", "px", True, "ef" * 32)
    with pytest.raises(UserError, match="no result of protocol hsnt"):
        results(runs, ["hsnt"])


OTHER_TESTS = {
    "replay": {"replayed": "episodes.jsonl"},
    "foreign a.pth": {"weights_mark": "foreign", "checkpoint": "a.pth"},
    "last; quick look; replay": {"weights_mark": "last", "replayed": "episodes.jsonl", "quick_look": True},
}


def test_a_result_is_one_row_with_the_mark_of_its_test(leave) -> None:
    own = leave("runs/0", environment={"commit": "0123456789"})
    others = [leave(f"runs/{mark}", **changes) for mark, changes in OTHER_TESTS.items()]
    table = result_table([own, *others])
    assert table.header == RESULT_COLUMNS
    rows = {row["mark"]: row for row in (dict(zip(table.header, row)) for row in table.rows)}
    assert sorted(rows) == sorted(["", *OTHER_TESTS])
    wanted = {"method": "Sym-Net", "miou": "50.00", "precision": "float32", "commit": "01234567", "date": "2026-11-20"}
    assert {name: rows[""][name] for name in wanted} == wanted
    assert result_table([own], "meta").rows[0][RESULT_COLUMNS.index("miou")] == "55.00"
    with pytest.raises(UserError, match="no output 'mta'; did you mean 'meta'"):
        result_table([own], "mta")


def test_a_fitted_table_shows_what_differs_and_the_score(leave) -> None:
    changes = {"symnet": {}, "untrained": {"weights_mark": "untrained"}, "prototype": {"model": "prototype"}}
    runs = [leave(run, run=run, **changed) for run, changed in changes.items()]
    table = fitted(result_table(runs))
    assert table.header == ["method", "mark", "miou", "fb_iou", "run"]
    assert table.rows[2] == ["prototype baseline", "", "50.00", "70.00", "prototype"]
    assert "pascal, fold 0, 1-shot, bam, " in table.above[0] and "1000 episodes, seeds 0" in " ".join(table.above)
    assert max(map(len, str(table).splitlines())) <= 100
    assert fitted(result_table(runs[:1])).header == ["method", "miou", "fb_iou"]


def test_the_table_of_a_result_has_deviations_further_metrics_and_classes() -> None:
    seeds = [
        {
            "final": {
                "miou": miou,
                "hd95": 4.5,
                "per_class": {"1": miou, "2": 60.0},
                "per_class_hd95": {"1": 3.0},
            },
            "base": {"miou": 30.0},
        }
        for miou in (48.0, 52.0)
    ]
    made = result(
        seeds=[0, 1], per_seed=seeds, mean={}, list_images=3, novel={"1": "cat", "2": "dog", "3": "rare"}, metrics=HD95
    )
    table = score_table(Row(Path(), made))
    assert table.header == ["score, or class: IoU %", "final", "base (base classes)"]
    assert table.rows[0] == ["mIoU %", "50.00 +- 2.83", "30.00 +- 0.00"]
    assert {name: final for name, final, _ in table.rows} == {"mIoU %": "50.00 +- 2.83", "HD95 px": "4.50 +- 0.00"} | {
        "cat": "50.00 +- 2.83",
        "dog": "60.00 +- 0.00",
        "cat, HD95 px": "3.00 +- 0.00",
        "dog, HD95 px": "-",
    }
    assert table.notes[0] == "final: the prediction; base: of the base classes"
    assert "over 2 test seeds, of the same 3 images, not over others" in table.notes[1]


def test_classes_that_are_left_out_are_said_beside_those_without_an_episode() -> None:
    left_out = {"left_out": ["boat", "spoon"], "classes_without_episodes": 4}
    assert classes_in_no_mean(result(**left_out)) == [
        "2 classes have too few images and are left out (data.rare_classes: skip): boat, spoon",
        "4 other classes have no episode and are excluded from every mean",
    ]
    assert classes_in_no_mean(result()) == []


def test_a_training_that_is_not_finished_says_the_steps_that_it_did(tmp_path) -> None:
    stage = {"stage": "meta", "step": 3, "steps": 8, "batch": 4, "size": 81, "settings": {}}
    half = result(training=[stage], finished=False)
    assert stages_text(half) == "meta stage 3 of 8 steps with batch 4"
    assert "trained: meta stage 3 of 8 steps with batch 4" in how_made(Row(tmp_path, half))
    assert title(half).startswith("NOT FINISHED (step 3 of 8): ")
    assert stages_text(result(training=[stage], finished=True)) == "meta stage 8 steps with batch 4"
