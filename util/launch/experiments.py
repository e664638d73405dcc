"""The experiments of one table: a training and a test each, by the commands of these."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from model.decides import Decides
from model.registry import class_of
from util import cli
from util.config.compose import CHOICE, Selection
from util.config.read import to_dict
from util.config.same import differences
from util.config.settings import Config
from util.evaluate.evaluation import Evaluation, deciding_scores
from util.evaluate.result import known_before
from util.evaluate.schema import RESULT, read_result
from util.files.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, Busy, UserError
from util.launch import torchrun
from util.run.folder import claim
from util.run.origin import Origin
from util.run.run import OWN, Run, StageFolder
from util.train.state import StageTask, stage_of


@dataclass(frozen=True)
class Experiment:
    """One fold or data set at one number of shots: a training and a test."""

    method: str
    config: Config  # of the test
    source: Config  # of the training, which may be on another data set

    @property
    def result(self) -> Path:
        """The result file that its test leaves."""
        return Evaluation.of(self.config).folder / RESULT

    @cached_property
    def reason(self) -> str:
        """Why its test had to run when that was first asked; '' if it had not."""
        return reason_to_test(self.config, self.result)

    @property
    def learns(self) -> bool:
        """Whether its test takes weights that a training of this command leaves."""
        return class_of(self.source.model).learns and self.source.test.checkpoint in OWN

    @cached_property
    def training(self) -> Run:
        """The run of its training, at the number of shots of its network."""
        return Run(self.source)

    @property
    def trains(self) -> bool:
        """Whether its training is to be run."""
        return self.learns and not StageFolder(self.training.trained).finished

    def facts(self) -> dict[str, Any]:
        """Return what is known of its result before its test."""
        evaluation = Evaluation.of(self.config)
        images = None
        with suppress(UserError):  # no data, which another check reports
            images = evaluation.images
        return known_before(evaluation, images)

    def run(self, gpus: int) -> int:
        """Train and test by their commands what is not done; return the exit code. Busy if another command does."""
        title = f"== {self.config.run.name}, {self.config.data.shot}-shot"
        trains = self.trains
        if not trains and not self.reason:
            print(f"{title}: done ==", flush=True)
            return 0
        with claim(self.result.parent):
            code = self._train(gpus) if trains else 0
            reason = reason_to_test(self.config, self.result)  # another command may have done it since
            if code or not reason:
                return code
            print(f"{title}: test by {self.config.test.protocol} == ({reason})", flush=True)
            return run_command("test", self.config, gpus, self.config.given)

    def _train(self, gpus: int) -> int:
        """Train by the command; return the exit code. Busy if another command does."""
        source = self.source
        print(f"== {source.run.name}, {source.data.shot}-shot: training ==", flush=True)
        self._check_unclaimed()
        given = [*source.given, f"data.shot={self.training.config.data.shot}"]
        code = run_command("train", source, gpus, given, "--resume")
        if code == EXIT_USER_ERROR:
            self._check_unclaimed()  # two may have begun at once
        return code

    def _check_unclaimed(self) -> None:
        """Raise Busy if another command trains one of its stages."""
        for stage in self.training.stages:
            with claim(self.training.folder(stage)):
                pass

    def tasks(self, processes: int) -> list[StageTask]:
        """Return the tasks of its training, if it has one, and of its test."""
        run = self.training
        folders = {"base": run.folder("base"), "meta": run.trained}
        tasks = [stage_of(run, stage, processes, folder=folders[stage]) for stage in run.stages if self.learns]
        state = self.reason or "finished"
        left = 1.0 if self.reason else 0.0
        return [*tasks, StageTask(self.config, "test", processes, self.result, state, left)]


def run_command(name: str, config: Config, gpus: int, overrides: list[str], *options: str) -> int:
    """Run ``train.sh`` or ``test.sh`` of a config with overrides; return the exit code, see ``run_to_end``."""
    source = config.source
    arguments = source.arguments if isinstance(source, Selection) else [str(source), config.data.name]
    experiment, dataset, *choice = arguments
    settings = [word for text in overrides for word in ("--set", text)]
    words = [name, experiment, dataset, str(gpus), *choice, *settings, *options]
    environment = {key: value for key, value in os.environ.items() if key not in CHOICE}
    return run_to_end([sys.executable, "-m", torchrun.__name__, *words], environment)


def run_to_end(command: list[str], environment: dict[str, str] | None = None) -> int:
    """Run a process to its end and return its exit code; the terminal sends it SIGINT, ``cli.STOPS`` are passed on.

    After a signal the code is never 0: what would follow must not begin.
    """
    signals = list[int]()
    children = list[subprocess.Popen]()

    def pass_on(number: int, _: object) -> None:
        signals.append(number)
        for child in children:
            child.send_signal(number)

    for number in cli.STOPS:
        signal.signal(number, pass_on)
    child = subprocess.Popen(command, env=environment)
    children.append(child)
    while (code := child.poll()) is None:
        try:
            child.wait()
        except KeyboardInterrupt:  # the child has got it too, and saves what it has
            signals.append(signal.SIGINT)
    cli.heed_stops()
    ended_by_signal = -code in cli.STOPS or (signals and code == 0)
    return EXIT_INTERRUPTED if ended_by_signal else code


def run_all(experiments: list[Experiment], gpus: int) -> tuple[int, list[Experiment]]:
    """Train and test what no other command works on; return the first exit code that is not 0, and what is left."""
    left = experiments
    progress = True
    while left and progress:
        asked = left
        left = []
        for experiment in asked:
            try:
                code = experiment.run(gpus)
                if code:
                    return code, asked
            except Busy as error:
                left.append(experiment)
                print(error, flush=True)
        progress = len(left) < len(asked)
    return 0, left


def reason_to_test(config: Config, path: Path) -> str:
    """Return the reason why a test of this config has to run: its result is missing or differs; '' if it need not."""
    if not path.exists():
        return "no result yet"
    try:
        result = read_result(path)
        scored = deciding_scores(result["config"])
    except (UserError, KeyError):
        return "the result there cannot be read"
    evaluation = Evaluation.of(config)
    if result["weights_mark"] != evaluation.run.weights_origin:
        return f"the result there is of {result['checkpoint']}"
    found = differences(scored, deciding_scores(to_dict(config)), Decides.SCORES)
    if set(config.test.metrics) <= set(scored["test"]["metrics"]):  # further ones do no harm
        found.pop("test.metrics", None)
    if found:
        return f"the result there differs in {', '.join([*found][:3])}"
    changed = [*Origin.of(result).differences(evaluation.origin)]
    return f"the result there is of {', '.join(changed)}" if changed else ""
