"""Observers of one's own: a log, a step that is left out, an end of the training, and one that fails."""

import logging
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import spawned
from tests.helpers.paths import REPOSITORY
from tests.train.test_midway import BATCH, Run
from util.config.read import from_dict, read_config, to_dict
from util.files.errors import UserError
from util.loop.observers import OBSERVERS, TrainingObserver, registered_observers
from util.loop.training import Training
from util.run.folder import BEST, LAST
from util.weights import checkpoint


@pytest.fixture(autouse=True)
def no_observer_remains():
    """Let no observer of a test look at another test's training."""
    yield
    OBSERVERS.clear()


def with_registered(run: Run, asked: dict[str, Any] | None = None) -> Run:
    own = registered_observers(run.folder, asked)
    run.checkpoints.state["observers"] = {observer.name: observer.facts for observer in own}
    run.observers = [*run.observers[:-1], *own, run.checkpoints]
    return run


def test_the_documented_observers_write_a_log_that_a_resumed_training_continues(tmp_path: Path) -> None:
    text = (REPOSITORY / "docs/new_method.md").read_text()
    (block,) = re.findall(r"```python\n((?:(?!```).)*observer.*?)```", text, re.DOTALL)
    exec(block.replace("symnet.", ""), {})
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    with_registered(Run(whole, float)).fit()
    with_registered(Run(halves, float, end=BATCH * 8)).fit()  # its checkpoint is of step 7
    with_registered(Run(halves, float)).resume()
    log, resumed = ((folder / "losses.csv").read_text() for folder in (whole, halves))
    assert log.count("\n") == 20
    assert resumed == log


def test_a_step_that_an_observer_skips_changes_no_weights(tmp_path: Path) -> None:
    @OBSERVERS.register("all")
    class SkipsAll(TrainingObserver):
        def __init__(self, folder: Path):
            self.weights = []

        def skips(self, training: Training) -> bool:
            self.weights.append(training.prepared.network.layer.weight.sum().item())
            return True

    run = with_registered(Run(tmp_path, float, validate_every=0)).fit()
    *_, own, _ = run.observers
    assert len({*own.observer.weights}) == 1
    assert [entry["skipped_steps"] for entry in run.record["epochs"]] == [5, 5, 5, 5]


@pytest.mark.parametrize("every", [0, 1])
def test_an_observer_may_end_a_training_inside_an_epoch(tmp_path: Path, every: int, caplog) -> None:
    @OBSERVERS.register("seven")
    class Seven(TrainingObserver):
        def __init__(self, folder: Path):
            pass

        def ends(self, training: Training) -> bool:
            return training.progress.step == 7

    settings = {"validate_every": every, "validate_midway": False, "patience": every}
    with caplog.at_level(logging.INFO, "symnet"):
        run = with_registered(Run(tmp_path, float, **settings)).fit()
    record = run.record
    assert (record["finished"], record["ended_by"], run.validated) == (True, "seven", [5, 7] * every)
    assert [entry["step"] for entry in record["epochs"]] == [5, 7]
    best, last = checkpoint.read(tmp_path / BEST), checkpoint.read(tmp_path / LAST)
    for stored in (best, last):
        assert torch.equal(stored.weights["layer.weight"], run.training.ema.average["layer.weight"])
    assert (best.training[-1]["step"], last.training[-1]["step"]) == (7, 7)
    assert ("optimizers" in last.entries, best.training[-1]["ended_by"]) == (True, "seven")
    assert re.findall("ended .*|no better.*", caplog.text) == ["ended after step 7 of 20 by seven"]


DIFFER = """
from symnet.util.config.registry import register
from symnet.util.loop.observers import TrainingObserver


@register("observer", "differs")
class Differs(TrainingObserver):
    def __init__(self, folder):
        pass

    def skips(self, training):
        return training.world.rank == 1 and training.progress.step == 1

    def ends(self, training):
        return training.world.rank == 1 and training.progress.step == 3
"""


@pytest.mark.process
@pytest.mark.train
def test_processes_share_an_answer_that_only_one_gives(mini_yaml, tmp_path: Path) -> None:
    (tmp_path / "differs.py").write_text(DIFFER)
    path = mini_yaml("ssp", meta_stage={"epoch_length": 16})
    path.write_text(f"imports: [differs.py]\n{path.read_text()}")
    ranks = spawned.start_ranks(2, "train.py", path)
    assert [rank.code for rank in ranks] == [0, 0], [rank.stderr[-2000:] for rank in ranks]
    stored = checkpoint.read(tmp_path / "runs/tiny/meta" / LAST)
    progress = stored.entries["progress"]
    assert (progress["step"], progress["skipped"], progress["ended_by"]) == (3, 1, "differs")
    (facts,) = stored.training[-1]["observers"].values()
    assert facts["decides"] and facts["code"].keys() == {"differs"}
    (tmp_path / "differs.py").write_text(f"{DIFFER}# changed")
    assert f"{stored.path.parent} is finished and kept" in spawned.run("train.py", path, "--resume").stdout
    assert "step 3 of 4" in spawned.run("train.py", path, "--resume", "--allow-changes", "--dry-run=2").stdout


FAILS = """
class Fails(TrainingObserver):
    decides = {decides}

    def __init__(self, folder):
        pass

    def step(self, training, losses, rates):
        if training.progress.step == 3:
            {line}

"""
LINES = {
    "looks": "raise ValueError('no such column')",
    "exits": "raise SystemExit(0)",
    "records": "type(self).record = lambda self, training, entry: entry.update(norm=1j)",
}
SAID = {
    "looks": r"step 3: the observer broken failed in step: ValueError: no such column \(<string>, line 10\)",
    "exits": r"step 3: the observer broken failed in step: SystemExit: 0",
    "records": r"step 5: .* failed in record: TypeError: Object of type complex is not JSON serializable",
}


@pytest.mark.parametrize("what", LINES)
def test_a_failing_observer_ends_the_training_or_is_left_out(tmp_path: Path, caplog, what: str) -> None:
    scope = {"TrainingObserver": TrainingObserver}
    exec(FAILS.format(line=LINES[what], decides=True), scope)
    OBSERVERS.register("broken")(scope["Fails"])
    with pytest.raises(UserError, match=f"{SAID[what]}.*; mend its code, then continue by train.sh --resume"):
        with_registered(Run(tmp_path, float)).fit()
    scope["Fails"].decides = False
    run = with_registered(Run(tmp_path, float)).fit()
    (line,) = (line for line in caplog.messages if "left out" in line)
    assert re.match(f"{SAID[what]}.*; it only looks, and is left out from here on", line)
    assert run.training.progress.step == 20 and "norm" not in run.training.progress.history[0]


def test_an_observer_that_only_looks_decides_nothing_whatever_it_answers(tmp_path: Path) -> None:
    @OBSERVERS.register("looks")
    class Looks(TrainingObserver):
        decides = False

        def __init__(self, folder: Path):
            pass

        def ends(self, training: Training) -> bool:
            if training.progress.step == 4:
                training.prepared = replace(training.prepared, precision="bf16")
            return True

    assert with_registered(Run(tmp_path, float)).fit().training.progress.step == 20
    (facts,) = checkpoint.read(tmp_path / LAST).training
    assert not facts["observers"]["looks"]["decides"]
    assert facts["computed_in"] == {"float32": 4, "bf16": 16}  # which is on record all the same


@dataclass
class EnergySettings:
    """The settings of an observer."""

    joules: float = field(default=900.0, metadata={"low": 0})


class Energy(TrainingObserver):
    """Ends a training that has spent its energy, of which each step takes one joule."""

    Settings = EnergySettings

    def __init__(self, folder: Path, settings: EnergySettings):
        self.joules = settings.joules

    def ends(self, training: Training) -> bool:
        return training.progress.step >= self.joules


def test_settings_of_an_observer_are_typed_and_kept(mini_yaml, tmp_path: Path) -> None:
    OBSERVERS.register("energy")(Energy)
    OBSERVERS.register("unasked")(Energy)
    path = mini_yaml("ssp")
    for setting, said in (
        ("energy.joule=3", r"unknown key 'observers.energy.joule'; did you mean 'joules'"),
        ("energy.joules=-1", r"observers.energy.joules = -1.0 is out of range; allowed: at least 0"),
        ("energi.joules=3", r"observers.energi: no such observer; did you mean 'energy'"),
    ):
        with pytest.raises(UserError, match=said):
            read_config(path, [f"observers.{setting}"])
    config = read_config(path, ["observers.energy.joules=7"])
    assert with_registered(Run(tmp_path / "run", float), config.observers).fit().record["ended_by"] == "energy"
    (facts,) = checkpoint.read(tmp_path / "run" / BEST).training
    assert facts["observers"]["energy"]["settings"] == {"joules": 7} == to_dict(config)["observers"]["energy"]
    other = read_config(path, ["observers.energy.joules=8"])
    again = with_registered(Run(tmp_path / "run", float), other.observers)
    with pytest.raises(UserError, match="was trained with other observers that may decide"):
        again.resume()
    assert from_dict(to_dict(other), "a.pth").observers == other.observers
