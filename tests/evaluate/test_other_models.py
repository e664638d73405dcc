"""The methods beside Sym-Net under the same trainer and tester: a short training each, shots, refused settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from model.registry import class_of, models
from tests.paths import REPOSITORY
from util.checkpoints import checkpoint
from util.checkpoints.weights import TRAINING_FREE, load_checkpoint
from util.config.read import read_config, to_dict
from util.errors import UserError
from util.evaluate.jobs import Request
from util.evaluate.testing import test as score
from util.run.context import make_run_context, with_data
from util.run.data import (
    base_stage_data,
    epoch_length,
    images_for_test,
    images_for_training,
    training_episodes,
    validation_episodes,
)
from util.run.folders import run_folder, weights_folder
from util.run.network import new_model
from util.run.processes import World
from util.train.stages import train_base, train_meta

MODELS = {
    "ssp": {"size": 33},
    "dcama": {"size": 64},
    "hdmnet": {"size": 33},
    "sccan": {"size": 33},
    "hsnet": {"size": 40},
    "bam": {"size": 33},
}
FAST = {"checkpoint": "best", "episodes": 3, "seeds": [0], "pictures": 0}


@pytest.fixture
def config(mini_yaml):
    """Return a function that gives a model's config over the tiny data set, with overrides."""

    def make(model: str, *overrides: str):
        path = mini_yaml(
            f"mini_split0_{model}_resnet10.yaml",
            run={"base_folder": None},
            model={"encoder": {"weights": None}},
            data=MODELS[model],
            meta_stage={"epoch_length": 8, "validate_episodes": 2},
            test=FAST,
        )
        return read_config(path, list(overrides))

    return make


@pytest.mark.train
@pytest.mark.parametrize("model", MODELS)
def test_a_short_training_and_a_test_at_one_and_two_shots(config, model: str, tmp_path: Path) -> None:
    short = config(model)
    if class_of(short.model).has_base_stage:
        assert train_base(short, resume=False, overwrite=False) == 0
    assert train_meta(short, resume=False, overwrite=False) == 0
    record = json.loads((run_folder(short, "meta") / "metrics.json").read_text())
    assert record["finished"] and record["epochs"][0]["step"] == 2  # eight episodes, four at a time
    protocols = ("hdmnet", "ssp", "dcama")
    results = score(short, Request(protocols=protocols))
    assert tuple(r["protocol"] for r in results) == protocols
    size = MODELS[model]["size"]
    assert results[0]["input"].startswith(f"stretch {size} x {size}")
    assert results[1]["input"].startswith("original sizes" if model == "ssp" else f"letterbox {size} x {size}")
    assert results[0]["trained_with"]["model"]["name"] == model
    if model in ("dcama", "hsnet"):  # one training serves every number of shots
        two = with_data(short, shot=2)
        assert weights_folder(two) == weights_folder(short) != run_folder(two, "meta")
        assert score(two)[0]["checkpoint"].endswith("meta/best.pth")


@pytest.mark.train
@pytest.mark.parametrize("model", ["insid3", "multiprototype", "probe"])
def test_a_method_that_learns_nothing_is_tested_by_every_kind_of_protocol(mini_yaml, model: str) -> None:
    path = mini_yaml(f"mini_split0_{model}_resnet10.yaml", model={"encoder": {"weights": None}}, test=FAST)
    config = read_config(path, ["data.shot=2", "test.batch=3"])
    results = score(config, Request(protocols=("symnet", "hsnet", "hdmnet", "ssp", "2way", "presence")))
    inputs = {result["protocol"]: result["input"] for result in results}
    assert len(inputs) == len(results)
    assert inputs["symnet"] == "letterbox 33 x 33" and inputs["ssp"] == "original sizes, nothing resized"
    assert inputs["hsnet"] == "stretch 100 x 100" and inputs["hdmnet"] == "stretch 33 x 33"
    assert all(
        result["checkpoint"] == TRAINING_FREE and 0 <= result["mean"]["final"]["miou"] <= 100 for result in results
    )


def test_refinement_can_be_switched_at_test_time_and_the_result_says_so(config, tmp_path: Path) -> None:
    trained = config("ssp", "model.refine=false")
    network = new_model(make_run_context(trained))
    path = tmp_path / "plain.pth"
    checkpoint.save(path, {"stage": "meta", "config": to_dict(trained), "weights": network.state_dict()})
    result = score(config("ssp", f"test.checkpoint={path}"))[0]
    assert result["trained_with"]["model"]["refine"] is False and result["config"]["model"]["refine"] is True
    assert {"final", "plain"} <= result["mean"].keys()


def test_published_stages_are_counted_as_published() -> None:
    ssp = read_config(REPOSITORY / "config/pascal/pascal_split0_ssp_resnet50.yaml").meta_stage
    iterations = ssp.epochs * ssp.epoch_length // ssp.batch
    optimizer = ssp.optimizers["main"]
    assert iterations == 6000 and [round(m * iterations) for m in optimizer.milestones] == [2000, 4000]
    assert (optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (1e-3, 0.9, 5e-4)
    dcama = read_config(REPOSITORY / "config/pascal/pascal_split0_dcama_swin_b.yaml").meta_stage
    assert (dcama.query, dcama.input, dcama.optimizers["main"].nesterov) == ("shuffled_pairs", "stretch", True)
    hdmnet = read_config(REPOSITORY / "config/pascal/pascal_split0_hdmnet_resnet50.yaml").meta_stage
    assert (hdmnet.validate_every, hdmnet.validate_episodes, hdmnet.validate_seed) == (1, 1000, 321)
    sccan = read_config(REPOSITORY / "config/pascal/pascal_split0_sccan_resnet50.yaml").meta_stage
    main, attention = sccan.optimizers["main"], sccan.optimizers["attention"]
    assert (main.kind, main.lr, main.momentum, main.weight_decay, main.schedule) == ("sgd", 0.05, 0.9, 1e-4, "poly")
    assert (attention.kind, attention.lr, attention.weight_decay) == ("adamw", 6e-5, 0.01)
    assert (attention.betas, attention.schedule) == ([0.9, 0.999], "constant")
    assert (sccan.epochs, sccan.batch, sccan.batch_per, sccan.patience) == (200, 8, "run", 75)
    assert (sccan.validate_every, sccan.validate_midway, sccan.validate_episodes) == (1, False, 1000)
    config = read_config(REPOSITORY / "config/coco/coco_split0_sccan_resnet101.yaml")
    assert (config.data.size, config.data.fold_rule, config.data.exclude_novel) == (473, "interleaved", True)
    coco = config.meta_stage
    assert (coco.epochs, coco.augment.scale, coco.patience) == (50, [0.8, 1.25], 75)
    assert (coco.validate_every, coco.validate_midway, coco.validate_episodes) == (1, True, 4000)
    assert config.test.protocol == "sccan" and config.protocols["sccan"].episodes == 4000


@pytest.mark.parametrize(
    ("dataset", "query", "batch"), [("pascal", "shuffled_pairs", 20), ("coco", "class_then_query", 40)]
)
@pytest.mark.parametrize("net", ["resnet50", "resnet101", "vgg16"])
def test_published_settings_of_hsnet(dataset: str, query: str, batch: int, net: str) -> None:
    config = read_config(REPOSITORY / f"config/{dataset}/{dataset}_split1_hsnet_{net}.yaml")
    meta, main = config.meta_stage, config.meta_stage.optimizers["main"]
    assert (config.data.size, config.data.exclude_novel, config.model.encoder.weights) == (400, False, "torchvision")
    assert (meta.query, meta.supports, meta.input) == (query, "with_replacement", "stretch")
    assert (meta.batch, meta.batch_per, meta.epochs, meta.patience) == (batch, "run", 2000, 0)
    assert (main.kind, main.lr, main.betas, main.weight_decay) == ("adamw", 1e-3, [0.9, 0.999], 0)
    assert (main.schedule, config.test.protocol, config.protocols["hsnet"].seeds[0]) == ("constant", "hsnet", 0)


@pytest.mark.parametrize(
    ("dataset", "size", "epochs", "scale", "base"),
    [("pascal", 473, 200, [0.9, 1.1], (100, 2.5e-4, 10)), ("coco", 641, 50, [0.8, 1.25], (20, 2.5e-3, 1))],
)
@pytest.mark.parametrize("net", ["resnet50", "resnet101", "vgg16"])
def test_published_settings_of_bam(dataset: str, size: int, epochs: int, scale: list, base: tuple, net: str) -> None:
    config = read_config(REPOSITORY / f"config/{dataset}/{dataset}_split2_bam_{net}.yaml")
    first, meta, main = config.base_stage, config.meta_stage, config.meta_stage.optimizers["main"]
    assert (config.data.size, config.data.exclude_novel, config.run.seed) == (size, True, 321)
    assert (first.epochs, first.optimizers["main"].lr, config.model.base.head_lr_factor) == base
    assert (first.images, first.batch, first.batch_per, first.size, first.patience) == ("all", 12, "run", 417, 75)
    assert (first.augment.scale, first.augment.keep_target) == ([0.5, 2.0], 0)
    assert (meta.epochs, meta.batch, meta.batch_per, meta.images, meta.patience) == (epochs, 8, "run", "fold", 75)
    assert (main.kind, main.lr, main.momentum, main.weight_decay, main.schedule) == ("sgd", 0.05, 0.9, 1e-4, "poly")
    assert (meta.augment.scale, meta.augment.keep_target, meta.augment.fit) == (scale, 0.85, "crop")
    assert (meta.validate_seed, meta.validate_episodes, meta.validate_midway) == (321, 1000, dataset == "coco")
    assert config.test.protocol == "bam" and len(config.protocols["bam"].seeds) == 5


def test_a_base_stage_may_train_on_all_images(config) -> None:
    """Those that show novel classes stay, with the novel classes as background; so they do in its validation."""
    found = {}
    for images in ("fold", "all"):
        settings = config("bam", f"base_stage.images={images}", "base_stage.validate_episodes=100000")
        context = make_run_context(settings)
        found[images] = base_stage_data(context, settings.base_stage, World(0, 1, torch.device("cpu")))
    index = found["all"].images.index
    assert len(found["all"].images.queries) == len(index.names) > len(found["fold"].images.queries)
    assert found["all"].validation_length > found["fold"].validation_length
    novel = list(make_run_context(config("bam")).fold.novel)
    row = int((index.areas[:, novel] > 0).any(1).nonzero()[0][0])
    assert row in found["all"].images.queries and row not in found["fold"].images.queries


def test_validation_episodes_are_of_the_seed_that_the_stage_names(config) -> None:
    drawn = {}
    for given in ("321", "510", "null"):  # without one, the protocol's first
        context = make_run_context(config("hdmnet", f"meta_stage.validate_seed={given}", "test.protocol=hdmnet"))
        episodes = validation_episodes(context, images_for_test(context, progress=False))
        drawn[given] = [episodes[i].rows for i in range(8)]
    assert drawn["null"] == drawn["510"] != drawn["321"]


def test_pairs_make_an_epoch_each_once(config) -> None:
    context = make_run_context(config("dcama", "meta_stage.epoch_length=null"))
    images = images_for_training(context, progress=False)
    length = epoch_length(context.config.meta_stage, images)
    episodes = training_episodes(context, images)
    keys = [episodes.sampler(n) for n in range(2 * length)]
    laps = [[(k.query, k.class_id) for k in keys[i : i + length]] for i in (0, length)]
    assert length == len(images.pairs) and laps[0] != laps[1]
    assert sorted(laps[0]) == sorted(laps[1]) == sorted(images.pairs)
    item = episodes[0]
    assert item.query.shape[-2:] == (64, 64) and item.query.dtype == torch.float32


# --- refused checkpoints ---------------------------------------------------------------------------------------------


def _published(model: str) -> dict[str, torch.Tensor]:
    """Return a state dict whose names are those of a published checkpoint, with empty tensors."""
    return {name: torch.zeros(1) for name in models()[model].published.signature}


@pytest.mark.parametrize(
    ("model", "state", "reason"),
    [
        ("ssp", _published("dcama"), "this is a DCAMA checkpoint, the config wants SSP"),
        ("dcama", _published("ssp"), "this is a SSP checkpoint, the config wants DCAMA"),
        ("bam", _published("hdmnet"), "this is a HDMNet checkpoint, the config wants BAM"),
        ("hdmnet", _published("hdmnet"), "not weights of this model as configured"),
    ],
)
def test_an_authors_checkpoint_of_something_else_is_named(config, tmp_path: Path, model: str, state: dict, reason: str):
    torch.save(state, tmp_path / "authors.pth")
    context = make_run_context(config(model))
    with pytest.raises(UserError, match=reason):
        load_checkpoint(context, new_model(context), "meta", tmp_path / "authors.pth")
