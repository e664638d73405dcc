"""The paper's table: every cell where it belongs, marked as measured or quoted, doubts said."""

import csv
import io
import operator
import sys
from itertools import product
from pathlib import Path

import pytest

from report import command
from tests.report.conftest import BAMS_TRACK, ENTRY
from util.files.errors import UserError
from util.files.table import Table
from util.report.paper import paper_tables
from util.report.tables import in_parts

MODEL_CONFIG = {"model": {"prototypes": 3, "encoder": {"weights": "fold0.pth"}}}
STAGE = {"stage": "meta", "steps": 500, "batch": 8, "size": 473, "seed": 321, "settings": {"epochs": 8}}
TRAINED = {"training": [STAGE], "config": MODEL_CONFIG}


def full(leave, shots=(1,), **changes) -> Path:
    """Leave the results of four folds and return the folder above them."""
    for shot, fold in product(shots, range(4)):
        scores = {"miou": 40.0 + 10 * fold + shot, "fb_iou": 60.0 + fold}
        last = leave(f"runs/fold{fold}_{shot}", fold=fold, shot=shot, mean={"final": scores}, **changes)
    return last.parent


def table(paths: list[Path], **options) -> Table:
    """Return the only table of some paths."""
    (only,) = paper_tables(paths, **options)
    return only


def text(runs: Path, form: str = "markdown", **options) -> str:
    return format(table([runs], **options), form)


def cells(runs: Path, method: str, **options) -> dict[str, str]:
    rows = {row[0]: row for row in csv.reader(io.StringIO(text(runs, "csv", **options)))}
    return dict(zip(rows["method"], rows[method], strict=True))


def line(printed: str, method: str) -> str:
    return next(line for line in printed.splitlines() if line.removeprefix("| ").startswith(method))


def test_numbers_and_facts_stand_in_their_columns(leave):
    runs = full(leave, (1, 5))
    ours, bam = cells(runs, "Sym-Net ResNet-50"), cells(runs, "BAM ResNet-50")
    names = "1-shot fold 0", "1-shot fold 1", "1-shot fold 2", "1-shot fold 3", "1-shot mean", "5-shot mean"
    of = operator.itemgetter(*names)
    assert of(ours) == ("41.0", "51.0", "61.0", "71.0", "56.0", "60.0")
    assert of(bam) == ("69.0", "73.6", "67.6", "61.1", "67.8", "70.9")
    names = "parameters M (learnt)", "1-shot FB-IoU", "1-shot s / episode", "5-shot fold 0", "origin", "protocol"
    of = operator.itemgetter(*names)
    assert of(ours) == ("23.4 (4.6)", "61.5", "1.2", "45.0", "measured", "bam (contiguous folds)")
    assert (*of(bam), "CVPR 2022" in bam["source"]) == ("-", "-", "-", "-", "quoted", "bam", True)
    few = leave("few/a", learnt_parameters=7_232, processes=2).parent
    wanted = {"parameters M (learnt)": "23.4 (0.0072)", "1-shot s / episode": "2.4"}
    assert wanted.items() <= cells(few, "Sym-Net ResNet-50").items()


def test_measured_and_quoted_numbers_are_marked(leave):
    printed = text(full(leave, (1, 5)))
    ours, quoted = line(printed, "Sym-Net"), line(printed, "BAM")
    assert "41.0*" in ours and "56.0*" in ours
    assert "BAM ResNet-50 [" in quoted and "*" not in quoted
    for note in ("* measured here", "Lang et al.", "weights abababab"):
        assert note in printed


def test_latex_has_rules_and_groups_and_parts_fit_a_terminal(leave):
    runs = full(leave, (1, 5), method="a method of a long name")
    latex = text(runs, "latex")
    groups = r"\multicolumn{7}{c}{1-shot} & \multicolumn{7}{c}{5-shot}"
    for part in (r"\toprule", r"\midrule", r"\bottomrule", groups, "\n% [1] "):
        assert part in latex
    parts = in_parts(table([runs]))
    assert {part.above[-1] for part in parts} == {"1-shot", "5-shot"}
    assert max(len(line) for part in parts for line in str(part).splitlines()) <= 100


def test_rows_of_different_tracks_are_marked(leave):
    first = leave("runs/a", model="prototype", dataset="other")
    track = "encoder's data: ImageNet-1k; text: none; training: in-domain; photos of novel classes: removed."
    assert f"all: {track}" in text(first)
    runs = leave("runs/b", dataset="other", track={**BAMS_TRACK, "text": True, "train_shot": 5}).parent
    printed = text(runs)
    assert " (a) " in line(printed, "prototype") and " (b) " in line(printed, "Sym-Net")
    assert "(b): encoder's data: ImageNet-1k; text: read;" in printed and "1-shot by weights of 5 shot" in printed
    assert "text: read" in cells(runs, "Sym-Net ResNet-50")["track"]


def test_a_mean_needs_every_fold(leave):
    for fold in range(3):
        runs = leave(f"runs/{fold}", fold=fold).parent
    ours = cells(runs, "Sym-Net ResNet-50")
    assert ours["1-shot mean"] == "-" and "1-shot fold 3" not in ours


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"protocol_settings": {**ENTRY, "seeds": [0, 1, 2]}, "other_seeds": True}, "1 of 3 seeds"),
        ({"quick_look": True, "episodes": 20}, "quick look"),
        ({"training": [STAGE | {"step": 3}], "finished": False}, "not finished"),
        ({"trained_otherwise": ["meta_stage.epochs = 1, now 8"]}, "trained with other settings"),
        ({"protocol_changes": ["episodes = 20, not 1000"]}, "changed protocol"),
        ({"classes_trained_on": ["cat"]}, "trained on tested classes"),
        ({"training": [STAGE | {"settings": {"query": "mine"}}]}, "own sampler"),
        ({"training": [STAGE | {"precision": "float32", "computed_in": {"bf16": 9}}]}, "changed precision"),
    ],
)
def test_a_number_that_is_not_the_protocols_is_marked(leave, changes: dict, doubt: str):
    runs = leave("runs/a", **changes).parent
    printed = text(runs)
    assert "50.0*?" in printed and f"? ({doubt}) not to be quoted" in printed
    assert f"measured ({doubt})" in text(runs, "csv")


SETTINGS, IN = "made with different settings", "in different precisions: float32; bf16"


@pytest.mark.parametrize(
    ("made", "change", "doubt"),
    [
        (TRAINED, {"training": [STAGE | {"settings": {"epochs": 1}}]}, SETTINGS),
        (TRAINED, {"size": 353}, SETTINGS),
        (TRAINED, {"config": {"model": {"prototypes": 5, "encoder": {"weights": "fold3.pth"}}}}, SETTINGS),
        (TRAINED, {"trained_with": {"train_list": "train.txt"}}, SETTINGS),
        (TRAINED, {"input": "letterbox 401 x 401"}, SETTINGS),
        (TRAINED, {"config": MODEL_CONFIG | {"data": {"test_list": "lists/few.txt"}}}, SETTINGS),
        # what learns nothing has the same weights in all folds
        ({"checkpoint": "training-free"}, {"weights": "cd" * 32}, SETTINGS),
        ({"code": {"model.a": "1"}}, {"code": {"model.a": "2"}}, "made by different code of the method"),
        ({"vectors": "a"}, {"vectors": "b"}, "made with different text vectors"),
        ({}, {"quick_look": True}, "quick look"),
        (
            {"training": [STAGE | {"precision": "float32"}]},
            {"training": [STAGE | {"precision": "bf16"}]},
            f"trained {IN}",
        ),
        ({}, {"precision": "bf16"}, f"tested {IN}"),
    ],
)
def test_a_mean_of_folds_that_differ_is_marked(leave, made: dict, change: dict, doubt: str):
    runs = full(leave, **made)
    assert "?" not in line(text(runs), "Sym-Net")
    leave("runs/fold3_1", **({"fold": 3} | made | change))
    printed = text(runs)
    assert f"? ({doubt})" in printed
    ours = line(printed, "Sym-Net")
    assert "51.0*" in ours and "51.0*?" not in ours and "50.8*?" in ours


def test_settings_that_name_a_fold_may_differ(leave):
    """Its lists, its encoder's weights and its training's seed."""
    for fold in range(4):
        model = {"prototypes": 3, "encoder": {"weights": f"fold{fold}.pth"}}
        stage = STAGE | {"seed": fold, "settings": {"epochs": 8, "list_file": f"fold{fold}"}}
        changes = {"config": {"data": {"fold": fold}, "model": model}, "training": [stage]}
        runs = leave(f"own/fold{fold}", fold=fold, **changes).parent
    assert "?" not in line(text(runs), "Sym-Net")


def of_seeds(leave, *seeds: int, **changes_of_last) -> Path:
    """Leave the results of trainings with several seeds on four folds; return the folder above them."""
    for seed, fold in product(seeds, range(4)):
        run = f"pascal_split{fold}_resnet50_seed{seed}"
        stage = STAGE | {"seed": seed} | (changes_of_last if seed == seeds[-1] else {})
        scores = {"final": {"miou": 40.0 + 10 * fold + seed, "fb_iou": 60.0}}
        runs = leave(f"seeds/{fold}_{seed}", run=run, mean=scores, training=[stage], fold=fold).parent
    return runs


def test_training_seeds_share_a_row_with_their_mean_and_deviation(leave):
    runs = of_seeds(leave, 1, 2, 6)
    printed, ours = text(runs), cells(runs, "Sym-Net ResNet-50")
    for said in ("43.0 +- 2.6*", "58.0 +- 2.6*", "(of a sample, n - 1) over 1-shot: training seeds 1, 2, 6."):
        assert said in printed
    assert "?" not in line(printed, "Sym-Net")
    assert r"58.0 $\pm$ 2.6" in text(runs, "latex")
    assert ours["1-shot mean"] == "58.0"
    assert "1-shot mean 2.65" in ours["standard deviation"]
    (runs / "3_6/result.json").unlink()
    assert "not every training has all folds" in text(runs)
    assert cells(runs, "Sym-Net ResNet-50")["1-shot mean"] == "56.5"


def test_seeds_of_different_precisions_are_marked(leave) -> None:
    printed = text(of_seeds(leave, 1, 2, precision="bf16"))
    assert "41.5 +- 0.7*?" in printed and "trained in different precisions: not stated; bf16" in printed
    assert "trained: meta stage 500 steps with batch 8, seed 2, bf16; tested in float32" in printed


def test_one_training_has_the_deviation_of_its_test_seeds(leave):
    for fold in range(4):
        seeds = [{"final": {"miou": miou, "per_class": {"1": miou}}} for miou in (50.0 + fold, 50.0 - fold)]
        runs = leave(f"runs/{fold}", fold=fold, per_seed=seeds, seeds=[0, 1]).parent
    printed = text(runs)
    for said in ("50.0 +- 4.2*", "50.0 +- 2.1*", "test seeds 0, 1"):
        assert said in printed


def test_rows_are_named_by_weights_from_elsewhere_and_whole_networks(leave):
    def names(*weights: str) -> list[str]:
        marked = [{"weights_mark": "foreign", "checkpoint": f"{one}/best.pth"} for one in weights]
        runs = [leave(f"runs/{fold}", fold=fold, **facts) for fold, facts in enumerate(marked)]
        return [str(row[0]).partition(" (")[2] for row in table(runs, papers="none").rows]

    assert names("runs/a/meta", "runs/b/meta") == ["a/meta/best.pth)", "b/meta/best.pth)"]
    assert names(*(f"x_split{fold}/meta" for fold in range(4))) == ["x_split/meta/best.pth)"]  # folds share a row
    net = "/models/my_sam3"
    run = f"pascal_split0_sam3_{net.replace('/', '--')}_words"
    printed = str(table([leave("runs/a", method="FSS-SAM3", backbone=net, encoder=net, run=run)]))
    assert f"FSS-SAM3 {net}, words" in printed
    assert "--models" not in printed.partition("measured here")[0]


@pytest.fixture
def printed_table(monkeypatch, capsys):
    """Return a function that runs ``report.py table ...`` and gives what it prints and the lines beside."""

    def run(*words: object) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["report", "table", *map(str, words)])
        assert command() == 0
        return capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], ["bam", "hsnet"]),
        (["--protocol", "hsnet"], ["hsnet"]),
        (["--protocol", "hsnet,bam"], ["hsnet", "bam"]),
    ],
)
def test_each_protocol_has_a_table_of_its_own(leave, printed_table, words: list[str], wanted: list[str]):
    for name in ("bam", "hsnet"):
        leave(f"runs/{name}", protocol=name, dataset="pets")
    runs = leave("runs/others", protocol="ssp", replayed="bam.jsonl").parent  # which no table shows
    printed, _ = printed_table(runs, *words)
    tables = printed.split(" (contiguous folds), ")
    assert [before.split()[-1] for before in tables[:-1]] == wanted
    assert "ssp" not in printed and max(map(len, printed.splitlines())) <= 100


def test_folders_without_results_and_empty_columns_are_left_out(leave, tmp_path, printed_table):
    own, others = leave("runs/a", dataset="pets"), tmp_path / "photos"
    others.mkdir()
    names, row = csv.reader(printed_table(own, others, "--format", "csv")[0].splitlines())
    assert names[3:7] == ["1-shot fold 0", "1-shot fold 0 FB-IoU", "1-shot s / episode", "track"]
    assert row[:5] == ["Sym-Net ResNet-50", "bam (contiguous folds)", "23.4 (4.6)", "50.0", "70.0"]
    for paths in ([others], [own, tmp_path / "absent"]):
        with pytest.raises(UserError, match=str(paths[-1])):
            table(paths)


def test_a_further_metric_has_a_column_and_the_notes_of_a_csv_are_beside_it(leave, printed_table):
    for fold in range(4):
        scores = {"miou": 50.0, "fb_iou": 70.0, "boundary_iou": 20.0 + fold, "per_class_boundary_iou": {"1": 15.0}}
        runs = leave(f"runs/new{fold}", fold=fold, mean={"final": scores}).parent
        leave(f"runs/old{fold}", fold=fold, model="prototype", quick_look=fold == 0)
    names = "Sym-Net ResNet-50", "prototype baseline ResNet-50"
    assert [cells(runs, name)["1-shot boundary IoU"] for name in names] == ["21.5", "-"]
    printed, beside = printed_table(runs, "--format", "csv")
    rows = [*csv.reader(io.StringIO(printed))]
    assert {len(row) for row in rows} == {len(rows[0])}
    assert "? (quick look" in beside
