"""The published settings of the methods, as the configs of this project merge to them."""

from dataclasses import dataclass

import pytest

from util.config.compose import find_config
from util.config.read import read_config, to_dict
from util.config.settings import StageSettings
from util.config.tree import find
from util.data.images.augmentation import CHANCE, KEEP_TRIES, ROTATION
from util.train.optim import MOMENTUM, POWER

BACKBONES = ("resnet50", "resnet101", "vgg16")
PUBLISHED = [(dataset, n, net) for dataset in ("pascal", "coco") for n, net in enumerate(BACKBONES)]


@pytest.mark.parametrize(("dataset", "fold", "net"), PUBLISHED)
def test_published_settings_common_to_all(dataset: str, fold: int, net: str) -> None:
    config = read_config(find_config(f"split{fold}", dataset, "symnet", net))
    data = config.data
    base, meta = config.base_stage, config.meta_stage
    assert (data.fold, data.folds, data.shot, data.min_pixels, data.exclude_novel) == (fold, 4, 1, 2048, True)
    assert (data.text, config.run.seed, config.run.precision) == ("word2vec", 321, None)
    assert config.model.encoder.backbone == net
    assert (base.batch, meta.batch) == (12, 32)
    assert (base.augment.keep_target, meta.augment.keep_target, KEEP_TRIES) == (0, 0.85, 30)
    assert (meta.optimizers["main"].lr, meta.patience) == (0.05, 80)
    assert config.test.protocol == "symnet"
    protocol = config.protocols["symnet"]
    assert (len(protocol.seeds), protocol.query) == (5, "sequential")
    for stage in (base, meta):
        check_stage(stage)


def check_stage(stage: StageSettings) -> None:
    main, augment = stage.optimizers["main"], stage.augment
    assert (main.kind, MOMENTUM, main.weight_decay) == ("sgd", 0.9, 1e-4)
    assert (main.schedule, POWER) == ("poly", 0.9)
    assert (ROTATION, CHANCE, augment.changes) == (10, 0.5, ["rotate", "blur", "flip"])
    assert stage.validate_every == 1


@dataclass
class OfData:
    """Settings that the stages of a data set have."""

    sides: tuple[int, int, int]  # of tests and both stages
    epochs: tuple[int, int]
    base_rate: float
    head_factor: float  # of the base stage's rate
    scales: tuple[list[float], list[float]]  # of both stages' augmentation
    episodes: int
    fold_rule: str
    classes: dict[int, str]  # the last one, and some others


OF_DATA = {
    "pascal": OfData(
        sides=(473, 417, 473),
        epochs=(100, 200),
        base_rate=2.5e-4,
        head_factor=10,
        scales=([0.5, 2.0], [0.9, 1.1]),
        episodes=1000,
        fold_rule="contiguous",
        classes={1: "aeroplane", 5: "bottle", 15: "person", 20: "tvmonitor"},
    ),
    "coco": OfData(
        sides=(641, 641, 641),
        epochs=(20, 50),
        base_rate=2.5e-3,
        head_factor=1,
        scales=([0.5, 2.0], [0.8, 1.25]),
        episodes=5000,
        fold_rule="interleaved",
        classes={1: "person", 12: "stop sign", 80: "toothbrush"},
    ),
}


@pytest.mark.parametrize("dataset", OF_DATA)
def test_published_settings_of_a_data_set(dataset: str) -> None:
    config = read_config(find_config("split0", dataset))
    data = config.data
    base, meta = config.base_stage, config.meta_stage
    wanted = OF_DATA[dataset]
    assert len(set(data.classes)) == max(wanted.classes)
    assert wanted == OfData(
        sides=(data.size, config.stage_size(base), config.stage_size(meta)),
        epochs=(base.epochs, meta.epochs),
        base_rate=base.optimizers["main"].lr,
        head_factor=config.model.base.head_lr_factor,
        scales=(base.augment.scale, meta.augment.scale),
        episodes=config.protocols["symnet"].episodes,
        fold_rule=data.fold_rule,
        classes={class_id: data.classes[class_id - 1] for class_id in wanted.classes},
    )
    assert dataset == "pascal" or config.model.scales == [81, 40, 20, 10]


SGD = {"kind": "sgd", "lr": 0.05, "weight_decay": 1e-4, "schedule": "poly"}
BAM_META = {"batch": 8, "patience": 75, "validate_seed": 321, "validate_episodes": 1000}
OF_METHODS = {  # settings that differ from the file are wrong numbers that nobody notices
    "split0 pascal ssp resnet50": {
        "meta_stage.optimizers.main": {"lr": 1e-3, "weight_decay": 5e-4, "schedule": "step"}
    },
    "split0 pascal dcama swin_b": {"meta_stage": {"query": "shuffled_pairs", "input": "stretch"}},
    "split0 pascal hdmnet resnet50": {"meta_stage": {"validate_every": 1, "validate_episodes": 1000}},
    "split3 pascal hdmnet vgg16": {
        "data": {"size": 473},
        "meta_stage": {"batch": 16, "epochs": 200},
        "meta_stage.augment": {"fit": "stretch"},
        "meta_stage.optimizers.main": {"kind": "adamw", "lr": 1e-3, "weight_decay": 0.01},
        "protocols.hdmnet": {"seeds": [510, 365, 382, 322, 988, 98, 742, 17, 595, 106]},
        "test": {"protocol": "hdmnet"},
    },
    "split3 coco hdmnet vgg16": {"data": {"size": 633}, "meta_stage": {"batch": 24, "epochs": 50}},
    "split0 pascal sccan resnet50": {
        "meta_stage": {"epochs": 200, "batch": 8, "patience": 75, "validate_midway": False},
        "meta_stage.optimizers.main": SGD,
        "meta_stage.optimizers.attention": {"kind": "adamw", "lr": 6e-5, "weight_decay": 0.01, "schedule": "constant"},
    },
    "split0 coco sccan resnet101": {
        "data": {"size": 473, "fold_rule": "interleaved", "exclude_novel": True},
        "meta_stage": {"epochs": 50, "patience": 75, "validate_midway": True, "validate_episodes": 4000},
        "protocols.sccan": {"episodes": 4000},
    },
    "split1 pascal hsnet vgg16": {
        "data": {"size": 400, "exclude_novel": False},
        "meta_stage": {"query": "shuffled_pairs", "supports": "with_replacement", "input": "stretch", "batch": 20},
        "meta_stage.optimizers.main": {"kind": "adamw", "lr": 1e-3, "weight_decay": 0, "schedule": "constant"},
    },
    "split1 coco hsnet resnet101": {"meta_stage": {"query": "class_then_query", "batch": 40, "epochs": 2000}},
    "split2 pascal bam resnet50": {
        "base_stage": {"images": "all", "epochs": 100, "batch": 12, "size": 417, "patience": 75},
        "meta_stage": {"epochs": 200, "validate_midway": False} | BAM_META,
        "meta_stage.optimizers.main": SGD,
        "meta_stage.augment": {"scale": [0.9, 1.1], "keep_target": 0.85, "fit": "crop"},
    },
    "split2 coco bam vgg16": {
        "data": {"size": 641},
        "base_stage": {"epochs": 20},
        "base_stage.optimizers.main": {"lr": 2.5e-3},
        "meta_stage": {"epochs": 50, "validate_midway": True} | BAM_META,
    },
    # the parts of a composition, in the order in which they win
    "split1 pascal bam lite0": {"data": {"size": 353}, "base_stage": {"size": 353, "epochs": 3}},
    "split1 coco insid3 lite0": {"data": {"size": 473}},
    "split3 coco symnet vgg16": {"model": {"scales": None}},
    "split0 isic ssp resnet50": {"test": {"protocol": "crossdomain"}},
    **{name: {"test": {"edges": True}} for name in ("split1 pascal pocket resnet50", "split1 coco pocket lite1")},
    "split1 mini pocket lite0": {"test": {"edges": False}},
}


@pytest.mark.parametrize("name", OF_METHODS)
def test_published_settings_of_a_method(name: str) -> None:
    config = to_dict(read_config(find_config(*name.split())))
    for section, settings in OF_METHODS[name].items():
        found = find(config, section)
        assert {key: found[key] for key in settings} == settings, section


@pytest.mark.parametrize("dataset", OF_DATA)
def test_hdmnet_may_share_the_base_stage_of_symnet(dataset: str) -> None:
    ours, symnet = (read_config(find_config("split3", dataset, method, "vgg16")) for method in ("hdmnet", "symnet"))
    assert ours.base_stage == symnet.base_stage and ours.model.base == symnet.model.base
