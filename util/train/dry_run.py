"""The dry run of a command, ``--dry-run``: its stages, their state, steps, batches and disk, and what would stop it."""

import sys
from pathlib import Path

from util.config.compose import files_of
from util.config.settings import Config
from util.files.errors import EXIT_USER_ERROR
from util.report.table import Table
from util.run.input_size import view_of
from util.run.weights import start_problem
from util.train.check import Needs, lacking
from util.train.plan import PlannedTraining, disk, planned
from util.train.state import Asked, StageTask, stage_of, stages_asked

COLUMNS = ["run", "stage", "state", "steps", "px", "batch x processes", "disk GB"]


def dry_run(config: Config, asked: Asked, processes: int) -> int:
    """Print what a training by so many processes on all machines would do, and all that would stop it; return its code.

    UserError: as ``train``, before anything is looked at.
    """
    run, stages = stages_asked(config, asked)
    tasks = [stage_of(run, stage, processes, asked) for stage in stages]
    needs = Needs().of(run.config)
    starts_from_encoder = tasks[0].left == 1 and asked.checkpoint is None
    if not starts_from_encoder:
        needs = [need for need in needs if not need.what.startswith("weights")]
    refused = [*lacking(needs), *(task.note for task in tasks if task.left)]
    if asked.checkpoint:
        refused.append(start_problem(run, asked.checkpoint))
    return plan(tasks, refused)


def plan(tasks: list[StageTask], refused: list[str]) -> int:
    """Print the tasks of a command, those of one folder once, and its refusals; return 0, or 2 if there are some."""
    if not tasks:
        return refuse(refused)
    trainings, errors = planned(tasks)
    rows = dict[tuple[str, Path], list[str]]()
    for task in tasks:
        if task.stage == "test":
            rows[task.stage, task.folder] = _test_row(task)
        for training in trainings:
            if training.task is task:
                rows[task.stage, task.folder] = _training_row(training)
    left = [training for training in trainings if training.task.left > 0]
    notes = dict.fromkeys(training.task.note for training in left if training.task.note)
    sources = dict.fromkeys(files_of(task.config.source) for task in tasks)
    says, problem = disk(tasks[0].config, left)
    table = Table(COLUMNS, [*rows.values()])
    print("\n".join([f"config: {', '.join(sources)}", str(table), *notes, f"disk: {says}"]), flush=True)
    return refuse([*(task.refusal for task in tasks), *refused, *errors, problem])


def refuse(lines: list[str]) -> int:
    """Print what a command refuses, each line once; return 0, or 2 if there is any."""
    refusals = dict.fromkeys(filter(None, lines))
    for line in refusals:
        print(f"error: {line}", file=sys.stderr)
    return EXIT_USER_ERROR if refusals else 0


def _test_row(task: StageTask) -> list[str]:
    config = task.config
    test = config.test
    protocol = config.protocols[test.protocol]
    seeds = len(test.seeds or protocol.seeds)
    episodes = test.episodes or protocol.number(config.data.fold) or "all"
    return [
        f"{config.run.name}, {config.data.shot}-shot",
        f"test by {test.protocol}",
        task.state,
        f"{seeds} x {episodes}",
        str(view_of(config, protocol).side or config.data.size),
        f"{test.batch} x {task.processes}",
        "0.00",
    ]


def _training_row(training: PlannedTraining) -> list[str]:
    task = training.task
    config = task.config
    shots = "" if task.stage == "base" else f", {config.data.shot}-shot"
    accumulate = task.settings.accumulate
    parts = f" in {accumulate} parts" if accumulate > 1 else ""
    return [
        f"{config.run.name}{shots}",
        task.stage,
        task.state,
        str(training.schedule.steps) if training.length else "?",
        str(config.stage_size(task.settings)),
        f"{training.schedule.batch / task.processes:.3g}{parts} x {task.processes}",
        f"{training.stored.final_bytes / 1e9:.2f}",
    ]
