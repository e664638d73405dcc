"""The paper's table: every cell where it belongs, marked as measured or quoted, and nothing mixed in a column."""

import csv
import io
import sys
from itertools import product
from pathlib import Path
from statistics import fmean

import pytest
import yaml

from report import command
from tests.report.conftest import BAMS_TRACK, ENTRY, HD95
from util.files.errors import UserError
from util.files.table import Table
from util.report.paper import paper_tables
from util.report.published import PUBLISHED, published

MODEL_CONFIG = {"model": {"prototypes": 3, "encoder": {"weights": "fold0.pth"}}}
STAGE = {"stage": "meta", "steps": 500, "batch": 8, "size": 473, "seed": 321, "settings": {"epochs": 8}}


def full(leave, shots=(1,), **changes) -> Path:
    """Leave the results of four folds and return the folder above them."""
    for shot in shots:
        for fold in range(4):
            scores = {"miou": 40.0 + 10 * fold + shot, "fb_iou": 60.0 + fold}
            last = leave(f"runs/fold{fold}_{shot}", fold=fold, shot=shot, mean={"final": scores}, **changes)
    return last.parent


def table(paths: list[Path], **options) -> Table:
    """Return the only table of some paths."""
    (only,) = paper_tables(paths, **options)
    return only


def class_table(paths: list[Path], **options) -> Table:
    return table(paths, by_class=True, **options)


def text(runs: Path, form: str = "markdown", **options) -> str:
    return format(table([runs], **options), form)


def cells(runs: Path, method: str) -> dict[str, str]:
    rows = {row[0]: row for row in csv.reader(io.StringIO(text(runs, "csv")))}
    return dict(zip(rows["method"], rows[method], strict=True))


def line(printed: str, method: str) -> str:
    return next(line for line in printed.splitlines() if line.removeprefix("| ").startswith(method))


def test_numbers_stand_in_their_columns(leave):
    runs = full(leave, (1, 5))
    ours, bam = cells(runs, "Sym-Net ResNet-50"), cells(runs, "BAM ResNet-50")
    names = ["1-shot fold 0", "1-shot fold 1", "1-shot fold 2", "1-shot fold 3", "1-shot mean", "5-shot mean"]
    assert [ours[name] for name in names] == ["41.0", "51.0", "61.0", "71.0", "56.0", "60.0"]
    assert [bam[name] for name in names] == ["69.0", "73.6", "67.6", "61.1", "67.8", "70.9"]
    assert (ours["1-shot FB-IoU"], bam["5-shot fold 0"]) == ("61.5", "-")


def test_rows_name_method_encoder_and_settings(leave):
    runs = full(leave)
    ours, bam = cells(runs, "Sym-Net ResNet-50"), cells(runs, "BAM ResNet-50")
    assert (ours["parameters M (learnt)"], ours["1-shot s / episode"]) == ("23.4 (4.6)", "1.2")
    few = leave("few/a", learnt_parameters=7_232).parent
    assert cells(few, "Sym-Net ResNet-50")["parameters M (learnt)"] == "23.4 (0.0072)"
    assert (bam["parameters M (learnt)"], bam["1-shot s / episode"]) == ("-", "-")
    assert (ours["origin"], ours["protocol"]) == ("measured", "bam (contiguous folds)")
    assert bam["origin"] == "quoted"
    assert "CVPR 2022" in bam["source"]


def test_measured_and_quoted_numbers_are_marked(leave):
    printed = text(full(leave, (1, 5)))
    ours, quoted = line(printed, "Sym-Net"), line(printed, "BAM")
    assert "41.0*" in ours
    assert "56.0*" in ours
    assert "BAM ResNet-50 [" in quoted
    assert "*" not in quoted
    for note in ("* measured here", "Lang et al.", "weights abababab"):
        assert note in printed


def test_latex_has_rules_groups_and_the_best_of_a_protocol_and_track_in_bold(leave):
    latex = text(full(leave, (1, 5)), "latex")
    groups = r"\multicolumn{7}{c}{1-shot} & \multicolumn{7}{c}{5-shot}", r"\cmidrule(lr){4-10} \cmidrule(lr){11-17}"
    for part in (r"\toprule", r"\midrule", r"\bottomrule", *groups, "\n% [1] "):
        assert part in latex
    ours, bam, hsnet = (line(latex, name) for name in ("Sym-Net ResNet-50", "BAM ResNet-50", "HSNet"))
    assert r"\textbf{71.0*}" in ours
    assert r"\textbf{41.0*}" not in ours
    assert r"\textbf{69.0}" in bam
    assert "textbf" not in hsnet  # alone by its protocol


def test_rows_of_different_tracks_are_marked_and_share_no_best_cell(leave):
    first = leave("runs/a", model="prototype", dataset="other")
    track = "encoder's data: ImageNet-1k; text: none; training: in-domain; photos of novel classes: removed."
    assert f"all: {track}" in text(first)
    runs = leave("runs/b", dataset="other", track={**BAMS_TRACK, "text": True, "train_shot": 5}).parent
    printed = text(runs)
    assert " (a) " in line(printed, "prototype")
    assert " (b) " in line(printed, "Sym-Net")
    assert "(b): encoder's data: ImageNet-1k; text: read;" in printed
    assert "1-shot by weights of 5 shot" in printed
    assert "text: read" in cells(runs, "Sym-Net ResNet-50")["track"]
    assert "textbf" not in text(runs, "latex")


def test_a_mean_needs_every_fold_and_a_quick_look_is_marked(leave):
    leave("runs/a", fold=0, quick_look=True, episodes=20)
    leave("runs/b", fold=1)
    runs = leave("runs/c", fold=2).parent
    ours = cells(runs, "Sym-Net ResNet-50")
    assert (ours["1-shot mean"], ours["1-shot fold 3"]) == ("-", "-")
    assert "quick look" in ours["origin"]
    printed = text(leave("runs/d", fold=3).parent)
    assert "50.0*?" in printed
    assert "? (quick look)" in printed


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"protocol_settings": {**ENTRY, "seeds": [0, 1, 2]}, "other_seeds": True}, "1 of 3 seeds"),
        ({"edges": True}, "measured by a former version"),
    ],
)
def test_a_number_that_is_not_the_protocols_is_marked(leave, changes: dict, doubt: str):
    runs = leave("runs/a", **changes).parent
    printed = text(runs)
    assert "50.0*?" in printed and f"? ({doubt})" in printed
    assert f"measured ({doubt})" in text(runs, "csv")


def test_classes_of_data_sets_without_folds_have_rows(leave):
    for dataset in ("isic", "pets"):
        runs = leave(f"runs/{dataset}", dataset=dataset, folds=1).parent
    _, *rows = csv.reader(io.StringIO(format(class_table([runs]), "csv")))
    assert [row[:3] for row in rows] == [[n, c, "50.0"] for n in ("isic", "pets") for c in ("aeroplane", "mean")]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"fold_rule": "interleaved"}, "protocol"),
        ({"dataset": "coco"}, "data set"),
        ({"min_pixels": 1}, "data.min_pixels"),
        ({"protocol_settings": {**ENTRY, "seeds": [7]}}, "protocol's settings"),
        ({"config": {"data": {"fold_classes": [["cat"], ["dog"]]}}}, "data.fold_classes"),
        ({"fold": 0}, "a cell .row Sym-Net ResNet-50, .*shot 1, .*fold 0, .* shows one result"),
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
    with pytest.raises(UserError, match=what):
        table([leave("runs/b", **({"fold": 1} | changes)).parent])


def test_a_protocol_and_an_output_can_be_chosen(leave):
    leave("runs/a", protocol="hsnet")
    runs = leave("runs/b").parent
    assert "50.0*" in text(runs, protocols=["bam"]) and "55.0*" in text(runs, protocols=["hsnet"], output="meta")
    for protocol, output, said in (("bam", "metaa", "metaa"), ("ssp", "final", "ssp")):
        with pytest.raises(UserError, match=said):
            table([runs], protocols=[protocol], output=output)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], ["bam", "hsnet"]),
        (["--protocol", "all"], ["bam", "hsnet"]),
        (["--protocol", "hsnet"], ["hsnet"]),
        (["--protocol", "hsnet,bam"], ["hsnet", "bam"]),
        (["--protocol", "hsnet,bam", "--rows", "classes"], ["hsnet", "bam"]),
    ],
)
def test_each_protocol_has_a_table_of_its_own(leave, monkeypatch, capsys, words: list[str], wanted: list[str]):
    for name in ("bam", "hsnet"):
        leave(f"runs/{name}", protocol=name, dataset="pets")
    leave("runs/others", protocol="ssp", replayed="bam.jsonl")  # which no table shows
    runs = leave("runs/elsewhere", protocol="dcama", fold_mismatch=True).parent
    monkeypatch.setattr(sys, "argv", ["report", "table", str(runs), *words])
    assert command() == 0
    printed = capsys.readouterr().out
    tables = printed.split("\n\n|")
    for name, one in zip(wanted, tables, strict=True):
        assert f"{name} (contiguous folds)" in one
    assert "ssp" not in printed


def test_a_protocol_without_a_result_is_refused_before_a_table_is_printed(leave, monkeypatch, capsys):
    runs = leave("runs/a", protocol="hsnet").parent
    monkeypatch.setattr(sys, "argv", ["report", "table", str(runs), "--protocol", "hsnet,hsnt"])
    with pytest.raises(UserError, match="no result of protocol hsnt; did you mean 'hsnet'"):
        command()
    assert not capsys.readouterr().out


def test_the_legend_says_whether_a_training_is_not_finished_or_another(leave):
    half = leave("half/a", training=[STAGE | {"step": 3}], finished=False).parent
    assert "? (not finished) not" in text(half) and "meta stage 3 of 500 steps" in text(half)
    other = leave("other/a", training=[STAGE], finished=True, trained_otherwise=["meta_stage.epochs = 1, now 8"]).parent
    assert "? (trained with other settings) not" in text(other)


@pytest.mark.parametrize(
    "change",
    [
        {"training": [STAGE | {"settings": {"epochs": 1}}]},
        {"size": 353},
        {"config": {"model": {"prototypes": 5, "encoder": {"weights": "fold3.pth"}}}},
        {"trained_with": {"train_list": "train.txt"}},
        {"input": "letterbox 401 x 401"},
        {"config": MODEL_CONFIG | {"data": {"test_list": "lists/few.txt"}}},
        {"checkpoint": "training-free", "weights": "cd" * 32},  # what learns nothing has the same weights in all folds
    ],
)
def test_folds_made_with_different_settings_are_marked(leave, change):
    """Settings that name a fold may differ: its lists, its encoder's weights and its training's seed."""
    made = {"training": [STAGE], "config": MODEL_CONFIG}
    if "checkpoint" in change:
        made["checkpoint"] = change["checkpoint"]
    runs = full(leave, **made)
    for fold in range(4):
        config = {"data": {"fold": fold}}
        config["model"] = {"prototypes": 3, "encoder": {"weights": f"fold{fold}.pth"}}
        stage = STAGE | {"seed": fold, "settings": {"epochs": 8, "list_file": f"fold{fold}"}}
        leave(f"own/fold{fold}", fold=fold, config=config, training=[stage])
    assert "?" not in line(text(runs), "Sym-Net")
    assert "?" not in line(text(runs.parent / "own"), "Sym-Net")
    leave("runs/fold3_1", **({"fold": 3} | made | change))
    printed = text(runs)
    assert "made with different settings" in printed
    assert "51.0*" in printed
    assert "51.0*?" not in printed
    assert "*?" in line(printed, "Sym-Net")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"training": [STAGE | {"precision": "bf16"}]}, "trained in different precisions: float32, bf16"),
        ({"precision": "bf16"}, "tested in different precisions: float32, bf16"),
    ],
)
def test_results_of_different_precisions_are_marked(leave, change: dict, said: str) -> None:
    """The folds of a mean in the mean."""
    alike = {"training": [STAGE | {"precision": "float32"}]} if "training" in change else {}
    runs = full(leave, **alike)
    assert "?" not in line(text(runs), "Sym-Net")
    leave("runs/fold3_1", **({"fold": 3} | alike | change))
    printed = text(runs)
    assert said in printed
    assert "*?" in line(printed, "Sym-Net")
    assert "50.0*?" not in printed
    assert "51.0*?" not in printed


def test_seeds_of_a_fold_that_were_trained_in_different_precisions_are_marked(leave) -> None:
    for seed in (1, 2):
        stage = STAGE | {"seed": seed, "precision": ("float32", "bf16")[seed - 1]}
        seeds = leave(f"seeds/{seed}", run=f"pascal_split0_resnet50_seed{seed}", training=[stage]).parent
    printed = text(seeds)
    assert "50.0 +- 0.0*?" in printed
    assert "trained: meta stage 500 steps with batch 8, seed 1, float32; tested in float32" in printed


def test_training_seeds_share_a_row_with_their_mean_and_deviation(leave):
    for seed, fold in product((1, 2, 6), range(4)):
        run = f"pascal_split{fold}_resnet50_seed{seed}"
        scores = {"final": {"miou": 40.0 + 10 * fold + seed, "fb_iou": 60.0}}
        training = [STAGE | {"seed": seed}]
        runs = leave(f"seeds/{fold}_{seed}", run=run, mean=scores, training=training, fold=fold).parent
    printed, ours = text(runs), cells(runs, "Sym-Net ResNet-50")
    for said in ("43.0 +- 2.6*", "58.0 +- 2.6*", "(of a sample, n - 1) over 1-shot: training seeds 1, 2, 6."):
        assert said in printed
    assert "?" not in line(printed, "Sym-Net")
    assert r"58.0 $\pm$ 2.6" in text(runs, "latex")
    assert ours["1-shot mean"] == "58.0"
    assert "1-shot mean 2.65" in ours["standard deviation"]
    (runs / "3_6" / "result.json").unlink()
    assert "not every training has all folds" in text(runs)
    assert cells(runs, "Sym-Net ResNet-50")["1-shot mean"] == "56.5"


def test_one_training_has_the_deviation_of_its_test_seeds(leave):
    for fold in range(4):
        seeds = [{"final": {"miou": miou, "per_class": {"1": miou}}} for miou in (50.0 + fold, 50.0 - fold)]
        runs = leave(f"runs/{fold}", fold=fold, per_seed=seeds, seeds=[0, 1]).parent
    printed = text(runs)
    for said in ("50.0 +- 4.2*", "50.0 +- 2.1*", "test seeds 0, 1"):
        assert said in printed


def test_an_encoders_best_score_is_bold(leave):
    """Not that of a metric whose direction no result says."""
    for run, miou, hd95, encoder in (("a", 40, 9, "ResNet-50"), ("b", 50, 20, "ResNet-50"), ("c", 90, 1, "VGG-16")):
        scores = {"final": {"miou": float(miou), "fb_iou": 70.0, "hd95": float(hd95)}}
        facts = {"run": f"other_split0_resnet50_{run}", "encoder": encoder, "dataset": "other"}
        runs = leave(f"runs/{run}", mean=scores, metrics=HD95, **facts).parent
        unsaid = leave(f"unsaid/{run}", mean=scores, **facts).parent
    latex = text(runs, "latex")
    of_unknown = text(unsaid, "latex")
    assert r"\textbf{50.0*}" in of_unknown and r"\textbf{9.0*}" not in of_unknown
    with pytest.raises(UserError, match="do not say whether small values are good"):
        text(unsaid, sort="fold 0 hd95")
    for best in ("50.0", "9.0"):
        assert rf"\textbf{{{best}*}}" in latex
    for other in ("40.0", "20.0", "90.0", "1.0"):
        assert rf"\textbf{{{other}*}}" not in latex


def test_published_rows_can_be_chosen(leave):
    runs = full(leave)
    chosen = text(runs, papers="bam,HDMNet,")
    assert "BAM ResNet-50" in chosen
    assert "SSP" not in chosen
    assert "BAM" not in text(runs, papers="none")
    with pytest.raises(UserError, match=r"--published bamm: .*'bam'"):
        table([runs], papers="bamm")
    with pytest.raises(UserError, match="--output base"):  # whose classes are no novel ones
        class_table([runs], output="base")


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


def test_folders_without_results_and_empty_columns_are_left_out(leave, tmp_path, monkeypatch, capsys):
    own, others = leave("runs/a", dataset="pets"), tmp_path / "photos"
    others.mkdir()
    monkeypatch.setattr(sys, "argv", ["report", "table", str(own), str(others), "--format", "csv"])
    assert command() == 0
    names, row = csv.reader(capsys.readouterr().out.splitlines())
    assert names[3:7] == ["1-shot fold 0", "1-shot fold 0 FB-IoU", "1-shot s / episode", "track"]
    assert row[:5] == ["Sym-Net ResNet-50", "bam (contiguous folds)", "23.4 (4.6)", "50.0", "70.0"]
    for paths in ([others], [own, tmp_path / "absent"]):
        with pytest.raises(UserError, match=str(paths[-1])):
            table(paths)


@pytest.fixture
def runs_with_classes(leave) -> Path:
    """Leave the results of two methods on four folds with three classes each; the first's have a further metric."""
    by_class = {"per_class_boundary_iou": {"1": 15.0, "2": 25.0}}
    for fold in range(4):
        changes = {"fold": fold, "novel": {"1": f"a&b{fold}", "2": f"c_{fold}", "3": "rare"}}
        scores = {"miou": 50.0, "fb_iou": 70.0, "boundary_iou": 20.0 + fold, **by_class}
        seeds = [{"final": {**scores, "per_class": {"1": 40.0 - s, "2": 40.0 + s}}} for s in (1, 2)]
        runs = leave(f"runs/new{fold}", per_seed=seeds, seeds=[0, 1], **changes).parent
        leave(f"runs/old{fold}", model="prototype", quick_look=fold == 0, **changes)
    return runs


def test_further_scores_have_columns(runs_with_classes: Path):
    names = "Sym-Net ResNet-50", "prototype baseline ResNet-50"
    assert [cells(runs_with_classes, name)["1-shot boundary IoU"] for name in names] == ["21.5", "-"]


def test_classes_have_rows(runs_with_classes: Path):
    classes = class_table([runs_with_classes], papers="none")
    rows = list(csv.DictReader(io.StringIO(f"{classes:csv}")))
    assert [row["class"] for row in rows if row["fold"] == "1"] == ["a&b1", "c_1", "rare", "mean"]
    assert [row["1-shot Sym-Net ResNet-50"] for row in rows[4:8]] == ["38.5", "41.5", "-", "50.0"]
    assert [row["1-shot Sym-Net ResNet-50, boundary IoU %"] for row in rows[4:8]] == ["15.0", "25.0", "-", "21.0"]
    marked = "1-shot prototype baseline ResNet-50: quick look"
    assert [row["mark"] for row in rows] == [marked, "", "", marked, *[""] * 12]
    assert not any("mean over seeds" in cell for row in rows for cell in row.values())
    assert " 50.0? |" in str(classes)
    latex = f"{classes:latex}".splitlines()
    assert r"1 & c\_1 & 41.5 & 25.0 & - \\" in latex
    assert latex[latex.index(r"1 & a\&b1 & 38.5 & 15.0 & \textbf{50.0} \\") - 1] == r"\midrule"


@pytest.fixture
def printed_table(monkeypatch, capsys):
    """Return a function that runs ``report.py table ... --format csv``, and gives its rows and the lines beside."""

    def run(*words: str) -> tuple[list[list[str]], str]:
        monkeypatch.setattr(
            sys, "argv", ["report", "table", *map(str, words), "--published", "none", "--format", "csv"]
        )
        assert command() == 0
        printed = capsys.readouterr()
        return list(csv.reader(io.StringIO(printed.out))), printed.err

    return run


@pytest.fixture
def pets(leave) -> Path:
    """Leave four runs on one fold of two, of which the last lacks the classes of the others; return their folder."""
    of_run = {"dataset": "pets", "folds": 2}
    for run, cat, dog, hd95 in (("a", 10, 90, 5), ("b", 30, 40, 9), ("c", 20, 60, 7)):
        scores = {"miou": (cat + dog) / 2, "fb_iou": 70.0, "hd95": float(hd95)}
        seeds = [{"final": {**scores, "per_class": {"1": cat, "2": dog}}}]
        classes = {"novel": {"1": "Cat", "2": "dog"}, "run": f"pets_split0_resnet50_{run}", "metrics": HD95}
        leave(f"runs/{run}", mean={"final": scores}, per_seed=seeds, **classes, **of_run)
    return leave("runs/d", novel={"1": "cow"}, run="pets_split0_resnet50_d", **of_run).parent


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("cat", "bcad"),
        ("DOG", "acbd"),
        ("cow", "dabc"),
        ("miou", "adcb"),
        ("1-shot fold 0", "adcb"),
        ("fold 0 hd95", "acbd"),
    ],
)
def test_methods_are_sorted_by_a_class_a_score_or_a_column(pets, printed_table, name: str, order: str):
    (_, *rows), _ = printed_table(pets, "--sort", name)
    assert [row[0][-1] for row in rows] == list(order)
    (header, *_), _ = printed_table(pets, "--sort", name, "--rows", "classes")
    assert [heading[-1] for heading in header if heading.startswith("1-shot")] == list(order)


def test_a_column_that_cannot_sort_a_table_is_refused(pets, printed_table):
    with pytest.raises(UserError, match="--sort catt: no class, score or column of this table; did you mean 'cat'"):
        printed_table(pets, "--sort", "catt")


def test_the_notes_of_a_csv_are_beside_it(runs_with_classes: Path, printed_table):
    for words in ((), ("--rows", "classes")):
        rows, beside = printed_table(runs_with_classes, *words)
        assert {len(row) for row in rows} == {len(rows[0])}
        assert "? (quick look" in beside


def test_published_class_scores_stand_beside_ours(leave):
    fold = {"novel": {"1": "aeroplane", "2": "bicycle"}, "fold": 0}
    run = leave("runs/a", **fold)
    classes = class_table([run])
    rows = list(csv.DictReader(io.StringIO(f"{classes:csv}")))
    name = next(name for name in rows[0] if "GF-SAM" in name)
    assert [row[name] for row in rows] == ["91.0", "49.0", "71.1"]
    assert "GF-SAM DINOv2-L + SAM-H, 1024 px: hsnet, quoted from Zhang" in str(classes)
    assert "GF-SAM" not in str(class_table([run], papers="BAM"))


def test_results_of_different_draws_share_no_column(leave):
    entry = {**ENTRY, "draw": "pfenet"}
    notes = {"": "published episodes", "the list of 9 images is not that of the published runs": "drawn here"}
    runs = [leave(f"runs/{i}", fold=i, protocol_settings=entry, draw_note=note) for i, note in enumerate(notes)]
    with pytest.raises(UserError, match=r"protocol \(bam \(contiguous folds, published .*; bam .* drawn here"):
        table(runs)
    for run, words in zip(runs, notes.values()):
        assert f"bam (contiguous folds, {words})" in str(table([run]))


@pytest.fixture(scope="module")
def entries() -> dict:
    return yaml.safe_load(PUBLISHED.read_text())


@pytest.mark.parametrize(("kind", "tolerance"), [("rows", 0.11), ("foundation", 0.35)])  # the latter's means as printed
def test_published_rows_are_whole(entries: dict, kind: str, tolerance: float):
    for row in entries[kind]:
        assert row["paper"] in entries["papers"]
        assert row["paper"] in entries["tracks"]
        assert ("fold_rule" in row) == (row["dataset"] == "coco")
        assert {1, 5} & row["miou"].keys()
        for *folds, mean in row["miou"].values():
            assert not folds or fmean(folds) == pytest.approx(mean, abs=tolerance), row


def test_published_rows_are_of_data_sets_with_a_config(entries: dict):
    for row in entries["rows"]:
        assert row["miou"].keys() == {1, 5}
        assert (PUBLISHED.parents[2] / "config" / row["dataset"]).is_dir()
    foundation = entries["foundation"]
    assert len({row["paper"] for row in foundation}) == 26
    assert {"lvis92i", "pascalpart", "pacopart", "fss1000", "coco", "perseg"} < {row["dataset"] for row in foundation}
    numbers, _ = published("lvis92i", [1, 5], "interleaved")
    assert len({number["method"] for number in numbers}) == 16


def test_published_rows_have_tracks_of_their_own():
    quoted, *_ = published("pascal", [1], "contiguous")
    tracks = {number["method"]: number["track"] for number in quoted}
    assert "text: read" in tracks["FSS-SAM3 with class names SAM 3"]
    assert "SA-Co" in tracks["FSS-SAM3 SAM 3"]
