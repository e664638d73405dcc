"""Results that no table, column, row or cell may mix are refused, and what is asked for has to be there."""

import sys

import pytest

from report import command
from tests.report.conftest import BAMS_TRACK, ENTRY, HD95
from util.files.errors import UserError
from util.report.paper import paper_tables


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"fold_rule": "interleaved"}, "protocol"),
        ({"dataset": "coco"}, "data set"),
        ({"min_pixels": 1}, "data.min_pixels"),
        ({"protocol_settings": {**ENTRY, "seeds": [7]}}, "protocol's settings"),
        ({"config": {"data": {"fold_classes": [["cat"], ["dog"]]}}}, "data.fold_classes"),
        ({"fold": 0}, "in result .* a cell row Sym-Net ResNet-50 .*shot 1 .*fold 0 .* shows one; name fewer runs$"),
        ({"fold": 0, "list": "f" * 64, "run": "pascal_split0_mine"}, "test list"),
        ({"track": {**BAMS_TRACK, "train_shot": 1, "novel_photos": "kept"}}, "track .*removed.*kept"),
        ({"whole_list": "b" * 64}, "whole test list"),
        ({"whole_content": "b" * 64}, "photos or masks of the whole test list"),
        ({"fold": 0, "content": "12" * 32, "model": "prototype"}, "photos or masks .*12121212"),
        ({"fold": 0, "model": "prototype", "input_side": 161}, "image side .473; 161"),
        ({"metrics": {"hd95": HD95["hd95"] | {"smaller_is_better": False}}}, "metric hd95"),
    ],
)
def test_results_that_no_column_or_row_may_mix_are_refused(leave, changes: dict, what: str):
    leave("runs/a", fold=0, whole_list="a" * 64, whole_content="a" * 64, metrics=HD95)
    runs = leave("runs/b", **({"fold": 1} | changes)).parent
    with pytest.raises(UserError, match=what):
        [*paper_tables([runs])]


def test_results_of_different_draws_share_no_table(leave):
    entry = {**ENTRY, "draw": "pfenet"}
    notes = {"": "published episodes", "the list of 9 images is not that of the published runs": "drawn here"}
    runs = [leave(f"runs/{i}", fold=i, protocol_settings=entry, draw_note=note) for i, note in enumerate(notes)]
    with pytest.raises(UserError, match=r"protocol \(bam \(contiguous folds, published .*; bam .*--protocol$"):
        paper_tables(runs)
    for run, words in zip(runs, notes.values()):
        assert f"bam (contiguous folds, {words})" in str(*paper_tables([run]))


def test_a_protocol_and_an_output_can_be_chosen(leave, monkeypatch, capsys):
    leave("runs/a", protocol="hsnet")
    runs = leave("runs/b").parent
    for protocol, output, number in (("bam", "final", "50.0*"), ("hsnet", "meta", "55.0*")):
        assert number in str(*paper_tables([runs], output, [protocol]))
    for protocol, output, said in (("bam", "metaa", "metaa"), ("ssp", "final", "ssp")):
        with pytest.raises(UserError, match=said):
            paper_tables([runs], output, [protocol])
    monkeypatch.setattr(sys, "argv", ["report", "table", str(runs), "--protocol", "hsnet,hsnt"])
    with pytest.raises(UserError, match="no result of protocol hsnt; did you mean 'hsnet'"):
        command()
    assert not capsys.readouterr().out
