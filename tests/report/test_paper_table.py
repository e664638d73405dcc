"""The paper's table: every cell where it belongs, marked as measured or quoted, and nothing mixed in a column."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
import yaml

from tests import spawned
from tests.report.conftest import BAMS_TRACK
from util.errors import UserError
from util.report.paper_table import PUBLISHED, table


def full(leave, shots=(1,), **changes) -> Path:
    """Leave the results of four folds and return the folder above them."""
    for shot in shots:
        for fold in range(4):
            scores = {"miou": 40.0 + 10 * fold + shot, "fb_iou": 60.0 + fold}
            last = leave(f"runs/fold{fold}_{shot}", fold=fold, shot=shot, mean={"final": scores}, **changes)
    return last.parent


def rows(text: str) -> dict[str, list[str]]:
    return {r[0]: r for r in csv.reader(io.StringIO(text))}


def test_folds_mean_and_fb_iou_stand_in_their_columns(leave):
    found = rows(table([full(leave, (1, 5))], "csv"))
    header, ours = found["method"], found["Sym-Net ResNet-50"]
    cells = dict(zip(header, ours, strict=True))
    assert [cells[f"1-shot fold {f}"] for f in range(4)] == ["41.0", "51.0", "61.0", "71.0"]
    assert (cells["1-shot mean"], cells["1-shot FB-IoU"], cells["5-shot mean"]) == ("56.0", "61.5", "60.0")
    assert cells["origin"] == "measured" and cells["protocol"] == "bam (contiguous folds)"
    bam = dict(zip(header, found["BAM ResNet-50"], strict=True))
    assert [bam[f"1-shot fold {f}"] for f in range(4)] == ["69.0", "73.6", "67.6", "61.1"]
    assert (bam["1-shot mean"], bam["5-shot mean"], bam["5-shot fold 0"]) == ("67.8", "70.9", "-")
    assert bam["origin"] == "quoted" and "CVPR 2022" in bam["source"]


def test_measured_and_quoted_cells_are_marked(leave):
    runs = full(leave)
    text = table([runs])
    ours = next(line for line in text.splitlines() if line.startswith("| Sym-Net"))
    quoted = next(line for line in text.splitlines() if line.startswith("| BAM"))
    assert "41.0*" in ours and "56.0*" in ours and "*" not in quoted and "BAM ResNet-50 [" in quoted
    assert "* measured here" in text and "Lang et al." in text and "weights abababab" in text
    latex = table([runs], "latex")
    assert r"\begin{tabular}{llrrrrrr}" in latex and r"41.0*" in latex and "\n% [1] " in latex


def test_latex_has_booktabs_and_bold_best_cells_of_a_protocol(leave):
    latex = table([full(leave, (1, 5))], "latex")
    assert all(rf"\{rule}" in latex for rule in ("toprule", "midrule", "bottomrule")) and "hline" not in latex
    assert r"\multicolumn{6}{c}{1-shot} & \multicolumn{6}{c}{5-shot}" in latex
    assert r"\cmidrule(lr){3-8} \cmidrule(lr){9-14}" in latex
    ours = next(line for line in latex.splitlines() if line.startswith("Sym-Net ResNet-50"))
    bam = next(line for line in latex.splitlines() if line.startswith("BAM ResNet-50"))
    assert r"\textbf{71.0*}" in ours and r"\textbf{69.0}" in bam and r"\textbf{41.0*}" not in ours
    hsnet = next(line for line in latex.splitlines() if line.startswith("HSNet"))
    assert "textbf" not in hsnet  # alone by its protocol


def test_rows_of_different_tracks_are_marked_and_the_marks_explained(leave):
    first = leave("runs/a", model="prototype", dataset="other")
    alone = table([first])
    track = "encoder's data: ImageNet-1k; text: none; training: in-domain; photos of novel classes: removed."
    assert f"all rows: {track}" in alone
    leave("runs/b", dataset="other", track={**BAMS_TRACK, "text": True, "train_shot": 5})
    text = table([first.parent])
    ours, baseline = (next(r for r in text.splitlines() if r.startswith(f"| {m}")) for m in ("Sym-Net", "prototype"))
    assert " (a) " in baseline and " (b) " in ours
    assert "(b): encoder's data: ImageNet-1k; text: read;" in text and "1-shot by weights of 5 shot" in text
    assert "text: read" in next(r for r in table([first.parent], "csv").splitlines() if "Sym-Net" in r)


def test_best_cells_are_of_one_track(leave):
    latex = table([full(leave, track={**BAMS_TRACK, "text": True})], "latex")
    ours = next(line for line in latex.splitlines() if line.startswith("Sym-Net ResNet-50"))
    assert "textbf" not in ours  # the best number, but alone on its track


def test_folds_of_different_tracks_share_no_row(leave):
    leave("runs/a")
    leave("runs/b", fold=1, track={**BAMS_TRACK, "novel_photos": "kept"})
    with pytest.raises(UserError, match=r"different tracks .*removed.*kept"):
        table([leave("runs/c", fold=2).parent])


def test_a_mean_needs_every_fold_and_a_quick_look_is_marked(leave):
    leave("runs/a", fold=0, quick_look=True, episodes=20)
    leave("runs/b", fold=1)
    found = rows(table([leave("runs/c", fold=2).parent], "csv"))
    cells = dict(zip(found["method"], found["Sym-Net ResNet-50"], strict=True))
    assert cells["1-shot mean"] == cells["1-shot fold 3"] == "-" and "quick look" in cells["origin"]
    text = table([leave("runs/d", fold=3).parent])
    assert "50.0*?" in text and "? (quick look)" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": "hsnet"}, "differ in protocol .*bam .*hsnet .*choose with --protocol"),
        ({"fold_rule": "interleaved"}, "differ in protocol"),
        ({"dataset": "coco"}, "differ in data set"),
        ({"min_pixels": 1}, "differ in data.min_pixels"),
        ({"protocol_settings": {"query": "sequential", "scored_on": "letterbox"}}, "differ in protocol settings"),
        ({"fold": 0}, "are both Sym-Net ResNet-50, 1-shot, fold 0; name only one"),
        ({"fold": 0, "list": "f" * 64, "run": "pascal_split0_vgg16"}, "different test lists of fold 0"),
        (
            {"protocol_settings": {"query": "sequential", "episodes": 99, "seeds": [0], "scored_on": "square"}},
            "settings",
        ),
        (
            {"protocol_settings": {"query": "sequential", "episodes": 1000, "seeds": [7], "scored_on": "square"}},
            "settings",
        ),
    ],
)
def test_what_no_column_may_mix_is_refused(leave, changes: dict, message: str):
    leave("runs/a", fold=0)
    with pytest.raises(UserError, match=message):
        table([leave("runs/b", **({"fold": 1} | changes)).parent])


def test_other_seeds_than_the_protocols_are_marked(leave):
    entry = {"query": "sequential", "episodes": 1000, "seeds": [0, 1, 2], "scored_on": "square"}
    runs = leave("runs/a", protocol_settings=entry, other_seeds=True).parent
    text, cells = table([runs]), rows(table([runs], "csv"))["Sym-Net ResNet-50"]
    assert "50.0*?" in text and "? (1 of 3 seeds)" in text and "measured (1 of 3 seeds)" in cells


def test_a_protocol_and_an_output_can_be_chosen(leave):
    leave("runs/a", protocol="hsnet")
    runs = leave("runs/b").parent
    assert "50.0*" in table([runs], protocol="bam") and "55.0*" in table([runs], protocol="hsnet", output="meta")
    with pytest.raises(UserError, match="output 'metaa' is unknown; did you mean 'meta'"):
        table([runs], protocol="bam", output="metaa")
    with pytest.raises(UserError, match="no result of protocol 'ssp'"):
        table([runs], protocol="ssp")


def test_published_rows_are_whole_and_have_their_source():
    content = yaml.safe_load(PUBLISHED.read_text())
    for row in content["rows"]:
        assert row["paper"] in content["papers"] and row["shot"] in (1, 5)
        assert row["dataset"] in ("pascal", "coco", "crossdomain") and len(row["miou"]) in (1, 5)
        assert ("fold_rule" in row) == (row["dataset"] == "coco")
        if len(row["miou"]) == 5:
            assert sum(row["miou"][:4]) / 4 == pytest.approx(row["miou"][4], abs=0.11), row


@pytest.mark.process
def test_the_command_prints_the_table(leave):
    """As a process of its own, the way a person runs it."""
    done = spawned.run("-m", "util.report", "table", leave("runs/a").parent, "--format", "csv")
    assert "Sym-Net ResNet-50,bam (contiguous folds),50.0,-" in done.stdout
