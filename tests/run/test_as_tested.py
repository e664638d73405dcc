"""A test takes the settings of its weights, but for what its command names."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.read import write_json
from util.config.read import read_config, to_dict
from util.config.settings import Config
from util.evaluate.evaluation import Evaluation
from util.run.begin import Asked, stage_of
from util.run.folder import BEST, ENVIRONMENT, LAST, METRICS
from util.run.run import Run
from util.weights import checkpoint


@pytest.fixture
def done_run(mini_config):
    """Return a config of a model that learns, and its meta folder as a finished run leaves it."""
    config = Evaluation(mini_config(), "bam", 1).config
    meta = Run(config).folder("meta")
    meta.mkdir(parents=True)
    (meta / METRICS).write_text('{"finished": true}')
    (meta / BEST).write_bytes(b"weights")
    return config, meta


@pytest.fixture
def tested(done_run):
    """Return a function that gives the config that a test takes, of a run whose training had other settings."""
    config, meta = read_config(done_run[0].source), done_run[1]
    options = ["data.size=41", "data.workers=1", "run.device=cuda"]  # of its command line
    more = ["data.min_pixels=7", "meta_stage.batch=3", "data.root=elsewhere", "test.batch=7"]  # of its file then
    save_checkpoints(meta, read_config(config.source, [*options, *more]))
    write_json(meta / ENVIRONMENT, {"options": [*options, "data.decoded_gib=0"]})  # by a former version

    def take(*given: str) -> Config:
        run, _ = Run(read_config(config.source, [*given])).as_tested()
        return run.config

    return take


def save_checkpoints(meta: Path, config: Config) -> None:
    """Write the checkpoints of a meta stage that was trained by a config."""
    content = {"stage": "meta", "config": to_dict(config), "weights": {}}
    content |= {"schedule": {"steps": 1}, "progress": {"step": 1}}
    checkpoint.save(meta / BEST, content)
    checkpoint.save(meta / LAST, content)


@pytest.mark.parametrize("given", [(), ("test.checkpoint=last",)])
def test_a_test_takes_the_settings_of_its_weights(given: tuple[str, ...], done_run, tested):
    """Its options, and data and model of its file then; other sections stay."""
    config = read_config(done_run[0].source)
    now = tested(*given)
    assert (now.data.size, now.data.workers, now.data.min_pixels) == (41, 1, 7)
    assert (now.data.root, now.run.device, now.test.batch) == (config.data.root, "cpu", config.test.batch)
    assert now.meta_stage == config.meta_stage  # a result names what differs


def test_the_command_line_and_the_fold_of_a_test_stay(done_run, tested):
    config, meta = done_run
    assert tested("data.size=49").data.size == 49
    assert tested("test.checkpoint=none").data.size == tested("run.name=other").data.size == 33
    assert tested("data.fold=1").data.fold == 1
    assert "data.size = 41, now 33" in stage_of(Run(read_config(config.source)), "meta", Asked(resume=True)).refusal
    save_checkpoints(meta, read_config(config.source, ["data.fold=1"]))
    assert tested().data.fold == 0  # which load_weights refuses


def test_weights_of_any_run_have_the_settings_of_their_own(done_run, tested, tmp_path: Path):
    other = f"test.checkpoint={shutil.copy(done_run[1] / BEST, tmp_path / 'other.pth')}"
    data = tested(other).data
    assert (data.size, data.min_pixels, data.fold) == (41, 7, 0)
    assert tested(other, "data.size=49").data.size == 49
    assert tested(other, "data.fold=1").data.fold == 1
    assert tested(other, "test.trained_on=voc").data.size == 33  # but of the model's, on another data set
