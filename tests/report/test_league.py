"""The league's table: trainings on equal terms beside a reference; others are refused by what differs."""

import itertools
import operator
import re
import shutil
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest
from PIL import Image

from model.registry import methods
from tests.helpers.paths import REPOSITORY
from tests.report.conftest import counts
from util.config.compose import find_config
from util.config.read import read_config, to_dict
from util.config.same import changed
from util.evaluate.schema import read_result
from util.files.errors import UserError
from util.files.mask_images import write_mask
from util.report.compare import difference, read_scored
from util.report.league import check_terms, league_tables
from util.run.begin import Asked
from util.run.rehearsal import dry_run

TITLES = {"ssp": "SSP", "hsnet": "HSNet", "pfenet": "PFENet"}


@pytest.fixture
def trained(leave):
    """Return a function that leaves a league's result of a method, a training's seed and a skill behind."""

    def write(model: str, seed: int, skill: float, *overrides: str, shot=1, listed="ab", number=600, **other) -> Path:
        run = f"laptop_split0_{model}_lite0"
        of_run = [f"run.seed={seed}", f"data.shot={shot}", "data.root=/another/machine", *overrides]
        config = to_dict(read_config(find_config("split0", "laptop", model, "lite0"), of_run))
        stage = {"stage": "meta", "step": 9, "steps": 9, "batch": 8, "size": 241, "list": listed * 32}
        facts = {"run": run, "model": model, "method": TITLES[model], "encoder": "EfficientNet-Lite0", "config": config}
        episodes = counts(100 * seed + len(model), number, skill)
        miou = sum(100 * e["outputs"]["final"][0] / 1000 for e in episodes) / len(episodes)
        facts |= {
            "backbone": "timm/tf_efficientnet_lite0",
            "mean": {"final": {"miou": miou, "fb_iou": 70.0}},
            "cost": {"processor_minutes": 18.5 + seed, "peak_mib": 900.0 + seed},
            "input_side": 241,
            "shot": shot,
        } | other
        training = [stage | {"seed": seed, "settings": config["meta_stage"]}]
        return leave(
            f"{run}_{shot}shot_seed{seed}{''.join(overrides)}", episodes, training=training, other_seeds=True, **facts
        )

    return write


SKILLS = {("ssp", 1): 0.5, ("ssp", 5): 0.6, ("hsnet", 1): 0.3, ("hsnet", 5): 0.9, ("pfenet", 1): 0.505}


@pytest.fixture
def runs(trained) -> dict[tuple[str, int], list[Path]]:
    """Return two trainings of methods, by method and number of shots."""
    return {
        (model, shot): [trained(model, seed, skill + 0.01 * seed, shot=shot) for seed in (1, 2)]
        for (model, shot), skill in SKILLS.items()
    }


def test_methods_stand_beside_the_reference_and_the_papers(runs: dict) -> None:
    scores, _ = league_tables([*itertools.chain(*runs.values())])
    rows = rows_of(scores)
    assert [*rows] == ["PFENet", "SSP", "HSNet"]
    of = operator.itemgetter("1-shot mIoU", "1-shot minus SSP", "5-shot minus SSP")
    assert of(rows["SSP"]) == (spread(runs["ssp", 1]), "-", "-")
    assert of(rows["HSNet"]) == (spread(runs["hsnet", 1]), gain(runs, "hsnet", 1), gain(runs, "hsnet", 5))
    assert of(rows["PFENet"]) == (spread(runs["pfenet", 1]), f"{gain(runs, 'pfenet', 1)}~", "-")
    assert (rows["HSNet"]["paper"], scores.notes[-1]) == ("64.0", "Spearman's correlation of the ranks: -1.00 (n = 3).")


def rows_of(table) -> dict[str, dict[str, str]]:
    return {row[0]: dict(zip(table.header, row)) for row in table.rows}


def spread(runs: list[Path]) -> str:
    mious = sorted(read_result(run / "result.json")["mean"]["final"]["miou"] for run in runs)
    return f"{mean(mious):.1f} +- {stdev(mious):.1f} ({mious[0]:.1f} to {mious[1]:.1f})"


def gain(runs: dict[tuple[str, int], list[Path]], model: str, shot: int) -> str:
    sides = ([read_scored(run, "final") for run in runs[name, shot]] for name in (model, "ssp"))
    a, b, low, high = difference(*sides)
    return f"{a - b:+.1f} ({low:+.1f} to {high:+.1f})"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"overrides": ["meta_stage.epochs=1"]}, "terms of config/laptop: meta_stage.epochs = 1, not ."),
        ({"overrides": ["data.size=321"]}, "data.size = 321, not 241"),
        ({"overrides": ["meta_stage.optimizers.main.lr=0.02"]}, "meta_stage.optimizers.main.lr = 0.02, not "),
        ({"cost": {"processor_minutes": 42.0}}, "HSNet .* 42.0, SSP .* 19.5: the league has one budget"),
        ({"cost": {}}, "no processor minutes on record: train it again"),
        ({"encoder": "ResNet-50"}, "encoder ResNet-50, not EfficientNet-Lite0"),
        ({"quick_look": True}, "quick look"),
        ({"protocol_changes": ["episodes = 1000, now 20"]}, "changed protocol episodes = 1000, now 20"),
        ({"number": 500}, "differ from number 500 on"),
        ({"run": "mine_split0", "overrides": ["meta_stage.batch=4"]}, "meta_stage.batch = 4, not 8$"),
        ({"listed": "cd"}, r"training list \(VOC's photos, or SBD's too\) \(cdcdcdcd; abababab"),
    ],
)
def test_another_budget_side_rate_or_list_is_refused(trained, changes: dict, said: str) -> None:
    overrides = changes.pop("overrides", [])
    runs = [trained("ssp", 1, 0.5), trained("hsnet", 1, 0.5, *overrides, **changes)]
    with pytest.raises(UserError, match=said):
        league_tables(runs)
    if overrides == ["meta_stage.epochs=1"]:
        runs = [trained(model, 1, 0.5, *overrides) for model in ("ssp", "hsnet")]
        assert len(league_tables(runs, overrides=overrides)[0].rows) == 2
        runs = [trained("ssp", 1, 0.5), trained("hsnet", 1, 0.5, *overrides, run="mine_split0")]  # of one's own file
        assert league_tables(runs)[0].notes[-1].startswith("HSNet, mine: ")
        renamed = trained("hsnet", 2, 0.5, run="pascal_split0_hsnet_lite0", input_side=None)
        scores, costs = league_tables([runs[0], trained("hsnet", 1, 0.5), renamed])
        assert [row[0] for row in scores.rows].count("HSNet") == 2
        assert {row[-1] for row in costs.rows} == {"241", "-"}


def test_what_the_table_would_refuse_is_refused_before_the_training() -> None:
    config = read_config(find_config("split0", "laptop", "ssp", "resnet50"), ["test.episodes=20"])
    with pytest.raises(UserError, match=r"= resnet50, not timm.*encoder ResNet-50, not Eff.*quick look \(20 of 1000"):
        check_terms(config)


@pytest.fixture
def voc_root(mini_root: Path, tmp_path: Path) -> Path:
    """Return a data set in VOC's layout with two training photos of each of its classes."""
    root = shutil.copytree(mini_root, tmp_path / "VOC2012")
    for name in ("train", "val"):
        for number, image in enumerate((root / f"ImageSets/Segmentation/{name}.txt").read_text().split()):
            path = root / f"SegmentationClassAug/{image}.png"
            write_mask(path, np.full_like(Image.open(path), 1 + number % 20))
    return root


OF_A_FOLD = {"data.fold", "run.name", "run.base_folder"}


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_the_terms_are_those_of_fold_0_and_stop_no_training(voc_root: Path, tmp_path: Path, capsys, fold: int) -> None:
    places = [f"data.root={voc_root}", f"data.cache={tmp_path}/cache", f"run.folder={tmp_path}/runs"]
    for method in filter(lambda name: (REPOSITORY / f"config/laptop/{name}.yaml").is_file(), methods()):
        first, config = (read_config(find_config(f"split{of}", "laptop", method, "lite0"), places) for of in (0, fold))
        assert {key for key, _ in changed(to_dict(first), to_dict(config))} <= OF_A_FOLD
        check_terms(config)
        dry_run(config, Asked(), processes=1)
        assert f"{config.run.name}, 1-shot |  meta | not begun |" in capsys.readouterr().out


NAMES_IN_DOCUMENTS = {
    "Sym-Net, conv4d": "Sym-Net, 4D convolutions",
    "multi-prototype baseline": "multi-prototype",
    "prototype baseline": "prototype",
    "linear probe": "probe",
}
LINK = re.compile(r"\[(.*?)\]\(.*?\)")


def cells_in(document: str) -> dict[str, list[str]]:
    """Return the cells of a document's tables by their first, without what is in brackets there, emphasis and links."""
    rows = [line.split("|")[1:-1] for line in (REPOSITORY / document).read_text().splitlines() if line[:1] == "|"]
    plain = [[LINK.sub(r"\1", cell).replace("**", "").strip() for cell in row] for row in rows]
    return {name.split(" (")[0]: cells for name, *cells in plain}


def test_readme_and_the_leagues_page_have_the_kept_results() -> None:
    scores, costs = map(rows_of, league_tables([REPOSITORY / "docs/results/league"]))
    page, readme = cells_in("docs/league.md"), cells_in("README.md")
    for method, row in scores.items():
        row = {key: cell.removesuffix("-") for key, cell in (row | costs[method]).items()}
        short = [row[f"{shot}-shot mIoU"].split(" (")[0] for shot in (1, 5)]
        apart = re.sub(r"(\(|to )\+", r"\1", row["1-shot minus SSP"])
        learnt = row["parameters M (learnt)"].split("(")[1].strip(")") if row["minutes"] else ""
        seconds = f"{float(row['1-shot s / episode']):.2f}"
        ranks = ", ".join(filter(None, (row["rank"], row["paper's rank"])))
        name = NAMES_IN_DOCUMENTS.get(method, method)
        on_page = [
            row["1-shot mIoU"],
            apart,
            short[1],
            row["minutes"],
            seconds,
            row["MiB"],
            learnt,
            row["paper"],
            ranks,
        ]
        assert page[name] == on_page
        if name in readme:
            assert readme[name][-3:] == [*short, f"{float(row['minutes']):.0f}"]
