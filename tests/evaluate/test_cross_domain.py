"""Tests on data sets with a mask per photo and class."""

import re
from pathlib import Path

import pytest

from tests.datasets import class_trees as trees
from tests.helpers.outcome import run_script
from tests.helpers.read import config_of, write_json
from tests.helpers.scored import score
from util.config.read import to_dict
from util.engine import SHIPPED
from util.files.errors import UserError
from util.report.paper import paper_tables
from util.run.begin import Asked, stages_asked
from util.run.data import validation_run
from util.run.run import Run
from util.run.weights import check_fits, load_weights
from util.weights import checkpoint


@pytest.mark.train
def test_a_test_on_a_prepared_set_and_its_table(
    tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.chest(tmp_path / "raw")
    data = tmp_path / "data"
    prepared = run_script("prepare.py", ("chestxray", "--root", f"{tmp_path}/raw", "--out", data), capfd, monkeypatch)
    assert prepared.code == 0
    overrides = [
        f"data.root={data}",
        f"data.cache={tmp_path}/cache",
        f"run.folder={tmp_path}/runs",
        "run.device=cpu",
        "model.encoder.weights=null",
        "data.workers=0",
        "protocols.crossdomain.side=33",
        "protocols.crossdomain.episodes=4",
    ]
    (result,) = score(config_of("split0", "chestxray", "prototype", "resnet10", overrides=overrides))
    assert (result["protocol"], result["novel"], result["list_images"]) == ("crossdomain", {"1": "lung"}, 5)
    check_tables(tmp_path / "runs/chestxray_split0_prototype_resnet10/test/crossdomain/result.json", result)


def check_tables(file: Path, result: dict) -> None:
    """Check the table of a result with results of three other data sets, which are copies of it."""
    others = [file.with_name(f"{name}.json") for name in ("deepglobe", "fss1000", "isic")]
    for other in others:
        write_json(other, {**result, "dataset": other.stem})
    four_sets = str(*paper_tables([file, *others], papers="all"))
    assert re.search(r"1-shot isic \| +1-shot chestxray \| +1-shot mean", four_sets)
    assert f"{result['mean']['final']['miou']:.1f} +- {result['deviation']['final']['miou']:.1f}*" in four_sets
    assert "whole batches scored as the class of their first item [1]" in four_sets


def test_data_sets_for_tests_alone_refuse_trainings() -> None:
    for name in ("fss1000", "isic", "chestxray", "deepglobe", "crossdomain"):
        config = config_of("split0", name, "hsnet")
        if name != "fss1000":
            assert config.test.protocol == "crossdomain"
        assert config.protocols["crossdomain"].query == "class_in_turn"
        assert config.protocols["hsnet"].episodes == (2400 if name == "fss1000" else 1000)
    with pytest.raises(UserError, match="Sym-Net has a base learner"):
        config_of("split0", "isic", "symnet", "resnet50")
    config = config_of("split0", "isic", "pocket", "lite0")
    with pytest.raises(UserError, match="Pocket learns from maps"):
        stages_asked(config, Asked())


def test_weights_of_another_data_set_keep_their_base_classes() -> None:
    settings = [f"test.checkpoint={SHIPPED}", "test.trained_on=pascal"]
    run = Run(config_of("split0", "isic", "pocket", "lite0", overrides=settings))
    weights = load_weights(run)
    assert (len(run.fold.base), weights.network.task.base_classes) == (3, 20)
    assert weights.trained_with is not None
    assert weights.trained_with["name"] == "pascal"


def test_training_takes_all_classes_and_validates_on_fss1000() -> None:
    run = Run(config_of("split0", "crossdomain", "hsnet", "resnet50"))
    assert len(run.fold.base) == 20
    held_out = validation_run(run).config.data
    assert (held_out.name, held_out.validation_list, held_out.size) == ("fss1000", "lists/validation.txt", 400)
    assert len(held_out.classes) == 1000


def test_weights_of_another_data_set_need_its_name() -> None:
    trained = to_dict(config_of("split0", "pascal", "hsnet", "resnet50"))
    stored = checkpoint.Checkpoint(Path("best.pth"), {}, trained, "meta")

    def check(trained_on: str) -> None:
        here = config_of("split0", "isic", "hsnet", "resnet50", overrides=[f"test.trained_on={trained_on}"])
        check_fits(stored, here, "meta")

    check("pascal")
    for trained_on, expected in (("null", "isic"), ("coco", "coco")):
        fix = "name a checkpoint of such a run; --set test.trained_on=pascal tests it all the same"
        with pytest.raises(UserError, match=rf"data\.name = pascal, this run has {expected}; {fix}"):
            check(trained_on)
