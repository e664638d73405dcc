"""The published settings of the methods, the table of config/README.md, and the recipes as they merge."""

import re
from dataclasses import asdict, replace
from typing import Any

import pytest
import yaml

from model.registry import methods
from tests.helpers.paths import REPOSITORY
from tests.helpers.read import config_of
from util.config.read import to_dict
from util.config.settings import Config, ProtocolSettings, StageSettings
from util.config.tree import find
from util.data.augmentation import CHANCE, KEEP_TRIES, ROTATION
from util.loop.optim import POWER
from util.loop.optimizer_kinds import MOMENTUM

PAGE = (REPOSITORY / "config/README.md").read_text()
COLUMNS = ("px", "epochs", "batch", "rate", "optimiser", "scale", "keep", "validation", "patience")
BASE_STAGE = "base stage"
WITH_BASE_STAGE = ("bam", "hdmnet", "hmnet", "symnet")
WHOLE_LIST = 100000
USUAL: dict[str, Any] = {  # of a stage and its run, where a row says nothing else
    "run.seed": 321,
    "data.shot": 1,
    "data.exclude_novel": True,
    "validate_every": 1,
    "validate_midway": False,
    "accumulate": 1,
    "ema_decay": 0,
}


def rows() -> dict[str, list[str]]:
    """Return the cells of each row of the table by its recipe."""
    lines = PAGE.splitlines()
    header, *table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert tuple(header[1:-1]) == COLUMNS
    return {recipe: values for recipe, *values in table}


ROWS = rows()
RECIPES = [(recipe.split()[0], recipe.split()[1]) for recipe in ROWS if BASE_STAGE not in recipe]
RECIPES += [(recipe.split()[0], method) for recipe in ROWS if BASE_STAGE in recipe for method in WITH_BASE_STAGE]


def cells_of(config: Config, stage: StageSettings, is_base: bool) -> list[str]:
    """Return what the table has of a stage, as text."""
    main, augment = stage.optimizers["main"], stage.augment
    low, high = augment.scale
    scale = f"{low:g}" if low == high else f"{low:g}-{high:g}"
    seed = config.protocols[config.test.protocol].seeds[0] if stage.validate_seed is None else stage.validate_seed
    is_view = stage.input == "crop"
    return [
        str(config.stage_size(stage)),
        str(stage.epochs),
        str(stage.batch),
        f"{main.lr:g}",
        f"{main.kind} {main.weight_decay:g} {main.schedule}",
        scale if is_view else "",
        f"{augment.keep_target:g}" if is_view else "",
        "all" if is_base and stage.validate_episodes == WHOLE_LIST else f"{stage.validate_episodes}, {seed}",
        str(stage.patience or ""),
    ]


@pytest.mark.parametrize("recipe", ROWS)
def test_recipes_have_the_published_values_of_the_page(recipe: str) -> None:
    *cells, further = ROWS[recipe]
    dataset, _, name = recipe.partition(" ")
    is_base = name == BASE_STAGE
    spans = re.findall(r"`([^`=]+)=([^`]+)`", further)
    assert len(spans) == further.count("`") // 2
    stated = {key: yaml.safe_load(value) for key, value in spans}
    for method in WITH_BASE_STAGE if is_base else (name,):
        config = config_of("split3", dataset, method)
        stage = config.base_stage if is_base else config.meta_stage
        assert cells_of(config, stage, is_base) == cells, method
        wanted = usual_of(stage, is_base) | stated
        tree = to_dict(config)
        tree |= tree["base_stage" if is_base else "meta_stage"]
        assert {key: find(tree, key) for key in wanted} == wanted, method


def usual_of(stage: StageSettings, is_base: bool) -> dict[str, Any]:
    """Return what a row need not say."""
    usual = USUAL
    if not is_base:
        usual = usual | {"run.precision": None}
    if stage.input == "crop":
        usual = usual | {"augment.changes": ["rotate", "blur", "flip"]}
    return usual


def test_the_page_has_every_method_with_published_training() -> None:
    trained = {name for name, cls in methods().items() if vars(cls).get("published") is not None}
    expected = {(dataset, name) for dataset in ("pascal", "coco") for name in trained}
    assert set(RECIPES) == expected - {("pascal", "sansa")}  # which its paper does not have


def test_published_settings_common_to_all() -> None:
    assert (MOMENTUM, POWER) == (0.9, 0.9)
    assert (ROTATION, CHANCE, KEEP_TRIES) == (10, 0.5, 1 + 31)
    config = config_of("split2", "coco", "symnet", "resnet101")
    assert (config.data.fold, config.data.folds, config.data.min_pixels) == (2, 4, 2048)
    assert (config.data.text, config.data.fold_rule, len(config.data.classes)) == ("word2vec", "interleaved", 80)
    assert config.model.encoder.backbone == "resnet101"


# The page leaves out values for one encoder, protocols, and the order in which parts of a config win.
METHOD_SETTINGS = {
    "split0 pascal pfenet vgg16": {"model": {"scales": [60, 30, 15, 8], "train_encoder_norms": True}},
    "split0 coco pfenet vgg16": {"model": {"scales": [41, 20, 10, 5]}},
    "split0 coco pfenet lite0": {"model": {"scales": None, "train_encoder_norms": False}},
    "split1 laptop pfenet lite0": {"model": {"train_encoder_norms": False}, "meta_stage.augment": {"keep_target": 0}},
    "split0 pascal dcama swin_b": {"meta_stage": {"query": "shuffled_pairs", "input": "stretch"}},
    "split3 pascal hdmnet vgg16": {
        "protocols.hdmnet": {"seeds": [510, 365, 382, 322, 988, 98, 742, 17, 595, 106]},
        "test": {"protocol": "hdmnet"},
    },
    "split3 coco hdmnet vgg16": {"data": {"size": 633}, "base_stage": {"size": 417}},
    "split0 coco hmnet resnet50": {"protocols.hmnet": {"episodes": 4000, "scored_on": "original"}},
    "split0 coco sccan resnet101": {"data": {"fold_rule": "interleaved"}, "protocols.sccan": {"episodes": 4000}},
    "split1 pascal hsnet vgg16": {"meta_stage": {"supports": "with_replacement", "input": "stretch"}},
    "split1 laptop bam lite0": {"data": {"size": 241}, "base_stage": {"size": 241, "epochs": 3, "images": "fold"}},
    "split1 laptop symnet lite0": {
        "base_stage": {"images": "fold", "patience": 0},
        "meta_stage": {"validate_seed": None},
    },
    "split1 mini hdmnet resnet10": {"base_stage": {"images": "fold", "validate_episodes": 500, "patience": 0}},
    "split3 coco symnet vgg16": {"model": {"scales": None}, "protocols.symnet": {"episodes": 5000}},
    "split3 pascal symnet vgg16": {"protocols.symnet": {"episodes": 1000, "query": "sequential"}},
    "split0 isic ssp resnet50": {"test": {"protocol": "crossdomain"}},
}


@pytest.mark.parametrize("name", METHOD_SETTINGS)
def test_settings_of_a_method_and_an_encoder(name: str) -> None:
    config = to_dict(config_of(*name.split()))
    for section, settings in METHOD_SETTINGS[name].items():
        found = find(config, section)
        assert {key: found[key] for key in settings} == settings, section


def test_the_methods_of_the_league_have_equal_terms() -> None:
    """But for the side where a method's grids need another, steps, a rate of three, and what a method alone has."""
    terms = set()
    for method in ("symnet", "pfenet", "hsnet", "ssp", "dcama", "bam", "hdmnet", "sccan", "hmnet", "pocket"):
        config = config_of("split0", "laptop", method)
        stage, data = config.meta_stage, config.data
        assert (data.size, data.exclude_novel) == (256 if method == "dcama" else 241, True)
        assert {rule.lr for rule in stage.optimizers.values()} <= {2e-4, 5e-4, 1e-3}, method
        rule = replace(stage.optimizers["main"], lr=0)
        learns = (stage.batch, rule, stage.augment, stage.query, stage.supports, stage.list_file)
        chosen = (stage.validate_on, stage.validate_episodes, stage.validate_seed, stage.patience, stage.size)
        of_data = (data.train_list, data.workers, config.model.encoder.backbone)
        terms.add(str((learns, chosen, of_data, config.run.precision, config.run.seed, config.test)))
    assert len(terms) == 1, terms


@pytest.mark.parametrize("dataset", ["pascal", "coco"])
def test_methods_over_a_base_learner_may_share_its_stage(dataset: str) -> None:
    bam, *others = (config_of("split3", dataset, method, "vgg16") for method in WITH_BASE_STAGE)
    for other in others:
        assert other.base_stage == bam.base_stage and other.model.base == bam.model.base


EVALUATION = (REPOSITORY / "docs/evaluation.md").read_text()
QUERIES = {  # how the page's table says it
    "the test list's images in order; one of the image's classes is drawn": "sequential",
    "as `symnet`": "sequential",
    "as `symnet`, with 1 or 4 further classes": "sequential",
    "list of pairs": "pairs",
    "images drawn with replacement": "random",
    "a class is drawn, then one of its images": "class_then_query",
    "all images of a class but its first K": "pairs",
    "classes in turn; one image of the class is drawn": "class_in_turn",
    "classes in turn; 50 episodes of each query": "class_in_turn",
}
LISTS = {  # which the table's "list of pairs" is
    "pascal": {"list_file": "lists/hsnet_pascal/val_fold{fold}.txt"},
    "coco": {"list_file": "lists/hsnet_coco/val_fold{fold}.txt.gz", "query": "class_then_query"},
}
PFENET = {"draw": "pfenet"}
PAIRS = {"draw": "hsnet", "smooth": True}
BAM_SEEDS = [510, 365, 382, 322, 988]
FURTHER: dict[str, dict[str, Any]] = {  # what the table leaves out, where it is not the default
    "bam": PFENET | {"seeds": BAM_SEEDS},
    "pfenet": PFENET | {"seeds": [321]},
    "sccan": PFENET | {"seeds": [321]},
    "hdmnet": PFENET | {"seeds": [*BAM_SEEDS, 98, 742, 17, 595, 106]},
    "hmnet": PFENET | {"seeds": [321]},
    "hsnet": PAIRS,
    "dcama": PAIRS,
    "matcher": PAIRS,
    "crossdomain": {"smooth": True},
    "2way": {"ways": 2},
    "5way": {"ways": 5},
    "references": {"references": 50},
}


def stated(dataset: str, row: str) -> dict[str, dict[str, Any]]:
    """Return the settings of a row's protocols on PASCAL or COCO, by the page's table and ``FURTHER``."""
    names, _, query, supports, on_pascal, on_coco, seeds, view, scored_on = [
        cell.strip() for cell in row.split("|")[1:-1]
    ]
    number = on_pascal if dataset == "pascal" else on_coco
    side = view.split()[-1]
    settings = asdict(ProtocolSettings()) | {
        "query": QUERIES[query],
        "supports": supports.replace("in turn", "distinct").replace(" ", "_"),
        "episodes": None if number == "all" else int(number),
        "seeds": [*range(int(seeds))],
        "input": view.split()[0],
        "side": int(side) if side.isdigit() else None,
        "scored_on": "letterbox" if scored_on == "input" else scored_on,
    }
    if query == "list of pairs":
        settings |= LISTS[dataset]
    return {name: settings | FURTHER.get(name, {}) for name in re.findall("`(.+?)`", names)}


@pytest.mark.parametrize("dataset", LISTS)
def test_protocols_are_those_of_the_page(dataset: str) -> None:
    config = config_of("split0", dataset, "symnet")
    rows = [row for row in EVALUATION.splitlines() if row.startswith("| `")]
    for row in rows:
        for name, settings in stated(dataset, row).items():
            assert asdict(config.protocols.pop(name)) == settings, name
            assert len(settings["seeds"]) == int(row.split("|")[7]), name
    assert not config.protocols
