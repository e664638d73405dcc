"""Tables of single results: what a deviation is of, and what is scored."""

from tests.report.conftest import ENTRY, result
from util.evaluate.titles import classes_in_no_mean
from util.report.one_result import class_score_table, protocol_table, score_table


def test_a_deviation_over_test_seeds_says_of_how_many_images_it_is() -> None:
    seeds = [{"final": {"miou": miou, "per_class": {"1": miou}}} for miou in (48.0, 52.0)]
    mean = {"final": {"miou": 50.0}}
    table = score_table(result(seeds=[0, 1], per_seed=seeds, mean=mean, list_images=3))
    assert table.rows == [["final", "50.00 +- 2.83"]]
    assert "over 2 test seeds, of the same 3 images, not over others" in table.notes[0]
    assert not score_table(result()).notes


def test_classes_have_further_metrics_in_columns() -> None:
    scores = {"miou": 50.0, "hd95": 4.5, "per_class": {"1": 40.0, "2": 60.0}, "per_class_hd95": {"1": 3.0, "2": 6.0}}
    names = {"1": "cat", "2": "dog", "3": "rare"}
    table = class_score_table(
        result(per_seed=[{"final": scores}], novel=names, mean={"final": {"miou": 50.0, "hd95": 4.5}})
    )
    assert table.header == ["class, IoU %", "final", "final, HD95 px"]
    assert table.rows == [["cat", "40.00", "3.00"], ["dog", "60.00", "6.00"], ["rare", "-", "-"]]


def test_a_stretched_input_is_not_scored_on_a_letterbox() -> None:
    entry = {**ENTRY, "scored_on": "letterbox"}
    stretched = result(protocol="hsnet", protocol_settings=entry, input="stretch 400 x 400", scored_on="letterbox")
    table = protocol_table([result(), stretched])
    assert [row[3:5] for row in table.rows] == [
        ["letterbox 473 x 473", "square"],
        ["stretch 400 x 400", "size of the input"],
    ]


def test_classes_that_are_left_out_are_said_beside_those_without_an_episode() -> None:
    left_out = {"left_out": ["boat", "spoon"], "classes_without_episodes": 4}
    assert classes_in_no_mean(result(**left_out)) == [
        "2 classes have too few images and are left out (data.rare_classes: skip): boat, spoon",
        "4 other classes have no episode and are excluded from every mean",
    ]
    assert classes_in_no_mean(result(classes_without_episodes=1)) == [
        "1 classes have no episode and are excluded from every mean"
    ]
    assert classes_in_no_mean(result()) == []
