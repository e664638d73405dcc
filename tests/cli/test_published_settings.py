"""The published settings of the methods, as the configs of this project merge to them."""

import pytest

from tests.paths import REPOSITORY
from util.config.read import read_config

CONFIGS = REPOSITORY / "config"
BACKBONES = ("resnet50", "resnet101", "vgg16")
PUBLISHED = [(dataset, n, net) for dataset in ("pascal", "coco") for n, net in enumerate(BACKBONES)]


@pytest.mark.parametrize(("dataset", "fold", "net"), PUBLISHED)
def test_published_settings_common_to_all(dataset: str, fold: int, net: str) -> None:
    config = read_config(CONFIGS / f"{dataset}/{dataset}_split{fold}_{net}.yaml")
    data, base, meta = config.data, config.base_stage, config.meta_stage
    assert (data.fold, data.folds, data.shot, data.min_pixels, data.exclude_novel) == (fold, 4, 1, 2048, True)
    assert (data.text, config.run.seed, config.run.precision) == ("word2vec", 321, "float32")
    assert config.model.encoder.backbone == net
    assert (base.batch, base.batch_per, meta.batch, meta.batch_per) == (12, "run", 32, "run")
    for stage in (base, meta):
        main = stage.optimizers["main"]
        assert (main.kind, main.momentum, main.weight_decay) == ("sgd", 0.9, 1e-4)
        assert (main.schedule, main.power) == ("poly", 0.9)
        augment = stage.augment
        assert augment.rotate == 10
        assert augment.rotate_probability == augment.blur_probability == augment.flip_probability == 0.5
        assert stage.validate_every == 1
    assert (base.augment.keep_target, meta.augment.keep_target, meta.augment.keep_tries) == (0, 0.85, 30)
    assert meta.optimizers["main"].lr == 0.05 and meta.patience == 80
    assert config.test.protocol == "symnet"
    assert len(config.protocols["symnet"].seeds) == 5 and config.protocols["symnet"].query == "sequential"


OF_DATA = {  # sides, epochs, base rate, its head's factor, scales of both stages, episodes, fold rule, some classes
    "pascal": (
        *((473, 417, 473), (100, 200), 2.5e-4, 10, ([0.5, 2.0], [0.9, 1.1]), 1000, "contiguous"),
        {1: "aeroplane", 5: "bottle", 15: "person", 20: "tvmonitor"},
    ),
    "coco": (
        *((641, 641, 641), (20, 50), 2.5e-3, 1, ([0.5, 2.0], [0.8, 1.25]), 5000, "interleaved"),
        {1: "person", 12: "stop sign", 80: "toothbrush"},
    ),
}


@pytest.mark.parametrize("dataset", OF_DATA)
def test_published_settings_of_a_data_set(dataset: str) -> None:
    config = read_config(CONFIGS / f"{dataset}/{dataset}_split0_resnet50.yaml")
    data, base, meta = config.data, config.base_stage, config.meta_stage
    *numbers, classes = OF_DATA[dataset]
    assert numbers == [
        (data.size, config.stage_size(base), config.stage_size(meta)),
        (base.epochs, meta.epochs),
        base.optimizers["main"].lr,
        config.model.base.head_lr_factor,
        (base.augment.scale, meta.augment.scale),
        config.protocols["symnet"].episodes,
        data.fold_rule,
    ]
    assert len(set(data.classes)) == max(classes) and {c: data.classes[c - 1] for c in classes} == classes
    assert dataset == "pascal" or config.model.scales == [81, 40, 20, 10]


@pytest.mark.parametrize(("dataset", "size", "batch", "epochs"), [("pascal", 473, 16, 200), ("coco", 633, 24, 50)])
def test_published_settings_of_hdmnet(dataset: str, size: int, batch: int, epochs: int) -> None:
    config = read_config(CONFIGS / f"{dataset}/{dataset}_split3_hdmnet_vgg16.yaml")
    symnet = read_config(CONFIGS / f"{dataset}/{dataset}_split3_vgg16.yaml")
    assert config.base_stage == symnet.base_stage and config.model.base == symnet.model.base  # they may share it
    meta, main = config.meta_stage, config.meta_stage.optimizers["main"]
    assert (config.data.size, meta.batch, meta.batch_per, meta.epochs) == (size, batch, "run", epochs)
    assert (main.kind, main.lr, main.weight_decay, meta.augment.fit) == ("adamw", 1e-3, 0.01, "stretch")
    assert config.protocols[config.test.protocol].seeds == [510, 365, 382, 322, 988, 98, 742, 17, 595, 106]
