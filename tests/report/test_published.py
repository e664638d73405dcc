"""The published numbers: whole rows with sources and tracks, chosen by paper, beside ours by fold."""

from statistics import fmean

import pytest
import yaml

from util.files.errors import UserError
from util.report.paper import paper_tables
from util.report.published import PUBLISHED, published

ENTRIES = yaml.safe_load(PUBLISHED.read_text())


def test_published_rows_can_be_chosen(leave):
    run, small = leave("runs/a"), leave("runs/b", input_side=129)
    of_pascal = [
        row for row in ENTRIES["rows"] + ENTRIES["foundation"] if row["dataset"] == "pascal" and 1 in row["miou"]
    ]
    for place, papers, shown in (
        (run, "bam,HDMNet,", {"BAM", "HDMNet"}),
        (run, "none", set()),
        (run, None, {"BAM"}),  # by the protocol of the result, at its side
        (small, None, set()),
        (small, "all", {row["paper"].split()[0] for row in of_pascal}),
    ):
        (table,) = paper_tables([place], papers=papers)
        first, *others = [str(row[0]).split()[0] for row in table.rows]
        assert (first, {*others}) == ("Sym-Net", shown)
    with pytest.raises(UserError, match=r"--published bamm: .*'bam'"):
        paper_tables([run], papers="bamm")


@pytest.mark.parametrize(("kind", "tolerance"), [("rows", 0.11), ("foundation", 0.35)])  # the latter's means as printed
def test_published_rows_are_whole(kind: str, tolerance: float):
    for row in ENTRIES[kind]:
        assert row["paper"] in ENTRIES["papers"] and row["paper"] in ENTRIES["tracks"]
        assert ("fold_rule" in row) == (row["dataset"] == "coco")
        assert {1, 5} & row["miou"].keys()
        assert kind == "foundation" or (PUBLISHED.parents[2] / "config" / row["dataset"]).is_dir()
        for *folds, mean in row["miou"].values():
            assert not folds or fmean(folds) == pytest.approx(mean, abs=tolerance), row


def test_published_rows_have_tracks_of_their_own():
    quoted = published("pascal", [1], "contiguous")
    tracks = {number.method: number.track for number in quoted}
    sources = {number.method: number.source for number in quoted}
    assert "Feature Enrichment" in sources["PFENet ResNet-50"] and "quoted by PAHNet" in sources["PFENet ResNet-50"]
    assert "text: read" in tracks["FSS-SAM3 with class names SAM 3"]
    assert "SA-Co" in tracks["FSS-SAM3 SAM 3"]
