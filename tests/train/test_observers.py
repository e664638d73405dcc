"""Observers of one's own: a log, a step that is left out, an end of the training, and one that fails."""

import logging
import re
from pathlib import Path

import pytest

from tests.helpers.paths import REPOSITORY
from tests.train.test_midway import BATCH, Run
from util.loop.observers import OBSERVERS, TrainingObserver, register_observer, registered_observers
from util.loop.training import Training


@pytest.fixture(autouse=True)
def no_observer_remains():
    """Let no observer of a test look at another test's training."""
    yield
    OBSERVERS.clear()


def with_registered(run: Run) -> Run:
    run.observers += registered_observers(run.folder)
    return run


def test_the_documented_observers_write_a_log_that_a_resumed_training_continues(tmp_path: Path) -> None:
    text = (REPOSITORY / "docs/new_method.md").read_text()
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "register_observer" in b]
    exec(block.replace("symnet.", ""), {})
    with_registered(Run(tmp_path / "whole", float)).fit()
    with_registered(Run(tmp_path / "halves", float, end=BATCH * 8)).fit()  # its checkpoint is of step 7
    with_registered(Run(tmp_path / "halves", float)).resume()
    log = (tmp_path / "whole/losses.csv").read_text()
    assert len(log.splitlines()) == 20 and (tmp_path / "halves/losses.csv").read_text() == log


def test_a_step_that_an_observer_skips_changes_no_weights(tmp_path: Path) -> None:
    @register_observer("all")
    class SkipsAll(TrainingObserver):
        def __init__(self, folder: Path):
            self.weights = list[float]()

        def skips(self, training: Training) -> bool:
            self.weights.append(training.prepared.network.layer.weight.sum().item())
            return True

    run = with_registered(Run(tmp_path, float, validate_every=0)).fit()
    assert len(set(run.observers[-1].observer.weights)) == 1
    assert [entry["skipped_steps"] for entry in run.record["epochs"]] == [5, 5, 5, 5]


def test_an_observer_ends_a_training(tmp_path: Path) -> None:
    @register_observer("seven")
    class Seven(TrainingObserver):
        def __init__(self, folder: Path):
            pass

        def ends(self, training: Training) -> bool:
            return training.progress.step == 7

    run = with_registered(Run(tmp_path, float)).fit()
    assert run.training.progress.step == 7 and run.record["finished"]


def test_an_observer_that_fails_is_logged_and_does_not_end_the_training(tmp_path: Path, caplog) -> None:
    @register_observer("broken")
    class Broken(TrainingObserver):
        def __init__(self, folder: Path):
            pass

        def step(self, *_: object) -> None:
            raise ValueError("no such column")

    with caplog.at_level(logging.WARNING, "symnet"):
        run = with_registered(Run(tmp_path, float)).fit()
    assert run.training.progress.step == 20
    (said,) = [r.getMessage() for r in caplog.records if "observer" in r.getMessage()]
    assert said == "the observer broken failed, and is not called again: ValueError: no such column"
