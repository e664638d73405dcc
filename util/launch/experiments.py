"""The experiments of one table, a training and a test each, and who does them."""

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from model.decides import Decides
from model.registry import class_of
from util.config.compose import arguments_of
from util.config.read import to_dict
from util.config.same import differences
from util.config.settings import Config
from util.evaluate.result import of_test
from util.evaluate.schema import RESULT, read_result
from util.evaluate.test import Test, deciding_scores
from util.files.errors import Busy, UserError
from util.launch.launch import RESUME, as_options, claim, run_script, train
from util.launch.tasks import StageTask, stage_in
from util.report.show import show
from util.report.verify import changed_since
from util.run.run import OWN, Run, StageFolder


@dataclass(frozen=True)
class Experiment:
    """One fold or data set at one number of shots: a training and a test."""

    method: str
    config: Config  # of the test
    source: Config  # of the training, which may be on another data set

    @property
    def result(self) -> Path:
        """The result file that its test leaves."""
        return Test.of(self.config).folder / RESULT

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
        test = Test.of(self.config)
        images = None
        with suppress(UserError):  # no data, which another check reports
            images = test.images
        return of_test(test, images)

    def run(self, gpus: int) -> int:
        """Train and test where that is not done; return the exit code. Busy if another command does."""
        trains = self.trains
        if trains:
            source = self.source
            print(f"== {source.run.name}, {source.data.shot}-shot: training ==", flush=True)
            options = as_options([*source.given, f"data.shot={self.training.config.data.shot}"])
            code = train(source.source, gpus, [*options, RESUME])
            if code:
                return code
        config = self.config
        title = f"== {config.run.name}, {config.data.shot}-shot"
        if trains or self.reason:
            with claim(self.result.parent):
                reason = reason_to_test(config, self.result)  # another command may have done it since
                if reason:
                    print(f"{title}: test by {config.test.protocol} == ({reason})", flush=True)
                    code = run_script("test", gpus, [*arguments_of(config.source), *as_options(config.given)])
                    if not code:
                        show([self.result])
                    return code
        print(f"{title}: done ==", flush=True)
        return 0

    def tasks(self, gpus: int) -> list[StageTask]:
        """Return the tasks of its training, if it has one, and of its test."""
        run = self.training
        folders = {"base": run.folder("base"), "meta": run.trained}
        tasks = [stage_in(folders[stage], run, stage, gpus) for stage in run.stages if self.learns]
        state = self.reason or "finished"
        left = 1.0 if self.reason else 0.0
        return [*tasks, StageTask(self.config, "test", gpus, self.result, state, left)]


def run_all(experiments: list[Experiment], gpus: int, verbose: bool = True) -> tuple[int, list[Experiment]]:
    """Train and test what no other command works on; return the first exit code that is not 0, and what is left.

    ``verbose``: which experiments another command works on is printed.
    """
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
                if verbose:
                    print(error, flush=True)
        progress = len(left) < len(asked)
    return 0, left


def run_in_two(experiments: list[Experiment], log: Path) -> tuple[int, list[Experiment]]:
    """Do as ``run_all`` on the CPU by two jobs, each on half of the cores; the output of the second is in ``log``.

    A small network trains twice on two cores in little more time than once on one of them, or once on both.
    """
    half_of_cores = max(1, (os.cpu_count() or 1) // 2)
    threads = os.environ.setdefault("OMP_NUM_THREADS", str(half_of_cores))
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"two jobs of {threads} thread(s); the output of the second is in {log}", flush=True)

    def second() -> None:
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        code, _ = run_all(experiments, 0, verbose=False)
        sys.exit(code)

    job = get_context("fork").Process(target=second)
    job.start()
    try:
        code, left = run_all(experiments, 0, verbose=False)  # each passes over those of the other
        if not code:
            job.join()
    finally:
        job.terminate()
        job.join()
    if left and not code:
        return run_all(left, 0)
    return code, left


def reason_to_test(config: Config, path: Path) -> str:
    """Return the reason why a test of this config has to run: its result is missing or differs; '' if it need not."""
    if not path.exists():
        return "no result yet"
    try:
        result = read_result(path)
        scored = deciding_scores(result["config"])
    except (UserError, KeyError):
        return "the result there cannot be read"
    test = Test.of(config)
    if result["weights_mark"] != test.run.weights_origin:
        return f"the result there is of {result['checkpoint']}"
    found = differences(scored, deciding_scores(to_dict(config)), Decides.SCORES)
    if set(config.test.metrics) <= set(scored["test"]["metrics"]):  # further ones do no harm
        found.pop("test.metrics", None)
    if found:
        return f"the result there differs in {', '.join([*found][:3])}"
    changed = changed_since(test, result)
    return f"the result there is of other code, data or weights: {changed}" if changed else ""
