"""How much a score depends on the reference: statistics worked by hand, a table, a figure, the protocol."""

from dataclasses import replace

import numpy as np
import pytest

from tests.report.conftest import ENTRY
from util.config.compose import find_config
from util.config.read import read_config
from util.files.errors import UserError
from util.report.figure import write_figure
from util.report.references import reference_figure, reference_table, statistics

SETTINGS = {**ENTRY, "references": 3}


def _episodes(ious: list[int]) -> list[dict]:
    """Return episodes of class 1 with these IoUs in percent, three of each query."""
    rows = []
    for number, iou in enumerate(ious):
        outputs = {"final": [iou, 100, 0, 0]}
        rows.append({"number": number, "query": "q", "class": 1, "supports": [f"r{number}"], "outputs": outputs})
    return rows


def test_statistics_are_of_each_query_and_then_their_mean() -> None:
    ious = np.array([[40.0, 50.0, 60.0], [10.0, 10.0, 10.0], [0.0, 0.0, 0.0]])
    mean, deviation, variation, worst, best = statistics(ious)
    assert (mean, worst, best) == (pytest.approx(20), pytest.approx(50 / 3), pytest.approx(70 / 3))
    assert deviation == pytest.approx(10 / 3)
    assert variation == pytest.approx((100 * 10 / 50 + 0) / 2)  # the third query has none


def test_results_by_references_have_a_table_and_a_figure(leave, tmp_path) -> None:
    run = leave("runs/a", _episodes([40, 50, 60, 10, 10, 10, 99]), protocol_settings=SETTINGS)  # the last is cut
    table = reference_table([run])
    every, aeroplane, *published = table.rows
    assert every[1:] == ["1", "all", "2", "3", "30.0", "5.0", "10.0", "25.0", "35.0"]
    assert aeroplane[2:] == ["aeroplane", *every[3:]]
    assert [row[0] for row in published] == ["CG-ICS (published)", "SANSA (published)", "GF-SAM (published)"]
    assert ", 1-shot, pascal fold 0: " in table.notes[-1]
    [file] = write_figure(tmp_path / "figure", reference_figure([run]))
    assert file.stat().st_size > 1000


def test_the_reference_table_needs_a_references_protocol(leave) -> None:
    with pytest.raises(UserError, match="--protocol references"):
        reference_table([leave("runs/b", _episodes([40]))])


def test_the_protocol_asks_each_query_with_each_reference() -> None:
    protocol = read_config(find_config("split0", "mini", "ssp", "lite0")).protocols["references"]
    assert protocol.episodes == 100 * protocol.references
    assert not list(protocol.problems())
    assert [key for key, _ in replace(protocol, draw="pfenet").problems()] == ["references", "draw"]
