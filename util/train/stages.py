"""A training: its stages one after the other; of each the network, what it starts from and its data, then the loop."""

import math
import shlex
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, cast

from model.contract import Trainable
from model.method import Method
from model.registry import described
from util.config.compose import files_of
from util.config.read import to_dict
from util.config.settings import Config
from util.data.draws import why_not_whole
from util.data.lists.manifest import digest
from util.files.errors import EXIT_INTERRUPTED, UserError, log
from util.files.sizes import GIB
from util.loop.device import describe, episodes_at_once, free_memory
from util.loop.loading import batches, training_numbers
from util.loop.metrics import MIOU, per_class
from util.loop.network import PreparedNetwork, prepare_network
from util.loop.observers import TrainingObserver, registered_observers
from util.loop.optim import EMA, StepSchedule, build_optimizers
from util.loop.processes import ProcessGroup, join
from util.loop.score import BASE, FINAL, Scoreboard, score
from util.loop.train import train_to_end
from util.loop.training import Progress, Training
from util.run.alike import check_alike
from util.run.begin import Asked, StageTask, stage_of, stages_asked, trained_part
from util.run.build import build_model, precision_of_training
from util.run.data import StageData, epoch_length, stage_data
from util.run.disk import CheckpointBytes, free_on_disk
from util.run.folder import BEST, OPTIONS, RUN, RunFolder, claim
from util.run.initial_weights import load_initial
from util.run.rehearsal import rehearse
from util.run.run import Run
from util.train.bookkeeping import (
    Checkpoints,
    Losses,
    Patience,
    StopOnSignal,
    Validate,
    Validation,
    resume,
    schedule_to_continue,
)
from util.train.curves import Curves
from util.train.kept_features import KEPT_GIB, KeptMaps, RecordFile, is_frozen
from util.weights import checkpoint
from util.weights.checkpoint import Checkpoint
from util.weights.code import code_of_run
from util.weights.encoders import encoder_licence
from util.weights.origin import Origin


def train(config: Config, asked: Asked) -> int:
    """Train the stages of a run that are lacking, one after the other, in this process; return the exit code.

    Between two stages the memory of the first is freed, and a signal is answered.

    UserError: the method learns nothing or has no such stage, its rehearsal was refused (``Refusals``), or another
    command works on it.
    """
    run, stages = stages_asked(config, asked)
    with join(
        run.config.run.device,
        "meta_stage.batch (base_stage.batch), size or data.workers",
        run.config.run.deterministic,
    ) as world:
        check_alike(world, run.config, options={"stages": stages, "options": asdict(asked)})
        world.from_main(lambda: rehearse(run, stages, world.size, asked).check())
        for stage in stages:
            with ExitStack() as claims:  # no other command trains it meanwhile
                task = world.from_main(partial(_claim_stage, claims, run, stage, asked))
                code = 0 if task is None else max(world.gather(train_stage(run, task, world, asked)))
            if code:
                return code
            free_memory(world.device)
    return 0


def _claim_stage(claims: ExitStack, run: Run, stage: str, asked: Asked) -> StageTask | None:
    """Claim the folder of a stage, print what is done there and return it; None: it is kept as it is.

    UserError: another command works there, or the stage cannot go on from its state.
    """
    folder = run.folder(stage)
    claims.enter_context(claim(folder))
    task = stage_of(run, stage, asked)
    if task.refusal:
        raise UserError(task.refusal)
    if task.finished:
        print(f"{stage} stage: {folder} is finished and kept ({task.state})", flush=True)
        return None
    state = f" ({task.state})" if task.state else ""
    does = f"continues in {folder} after {task.state}" if task.continues else f"begins in {folder}{state}"
    print(f"{stage} stage: {does}", flush=True)
    return task


def train_stage(run: Run, task: StageTask, world: ProcessGroup, asked: Asked) -> int:
    """Train a stage in some processes and return the exit code; UserError: what it needs is missing or wrong."""
    setup = _set_up(run, task, world, asked)
    check_alike(world, run.config, partial(_origins, run, task, world, setup))
    training = _training(run, task, world, setup, asked)
    if world.is_main and not task.continues:
        run.discard_tests(task.stage)  # of weights that are about to be replaced
    checkpoints = _checkpoints(run, task, training, setup)
    with closing(checkpoints.folder):
        registered = registered_observers(task.folder, run.config.observers)
        checkpoints.state["observers"] = {observer.name: observer.facts for observer in registered}
        _keep_maps(run.config, task, world, setup)
        if setup.stored:
            resume(training, setup.stored, checkpoints.state, asked.allow_changes)
        _log_start(training, checkpoints, run, setup)
        first = training.progress.step + 1 if task.continues else None  # points of the curves from here on are replaced
        with closing(Curves(task.folder if world.is_main else None, first)) as curves:
            validate = partial(_validate, training=training, data=setup.data, curves=curves, config=run.config)
            observers = _observers(task, checkpoints, curves, validate, registered)
            finished = _run_loop(training, setup.data, observers, run.config.data.workers)
    if finished and not world.any(training.interrupt.requested):
        _log_end(task, training.progress.best, run.config)
        return 0
    log.info("interrupted; the same command with --resume continues")
    return EXIT_INTERRUPTED


@dataclass(frozen=True)
class Setup:
    """The network and the data of a stage, and what it started from."""

    network: Trainable  # the model, or in the base stage its encoder and base learner
    start: Checkpoint  # of the files that it started from, see ``load_initial``
    note: str  # a line for the log on these; '': it continues
    data: StageData
    stored: Checkpoint | None  # the one that it continues; None: it begins


def _set_up(run: Run, task: StageTask, world: ProcessGroup, asked: Asked) -> Setup:
    """Return the network of a stage, filled where it begins, and its data; raises as both do."""
    model = build_model(run.config, run.text_width)
    stored = run.stage_folder(task.stage).newest() if task.continues else None
    # Refused before photos are read; of a stage that continues, the last training is this stage's own
    note, start = (
        ("", replace(stored, training=stored.training[:-1]))
        if stored
        else load_initial(run, model, task.stage, asked.checkpoint)
    )
    network = trained_part(model, task.stage)
    data = stage_data(run, task.stage, world.is_main)  # whose index the rehearsal has made
    return Setup(network, start, note, data, stored)


def _origins(run: Run, task: StageTask, world: ProcessGroup, setup: Setup) -> list[Origin]:
    """Return what decides a stage in this process beside settings: vectors, precision, weights, photos and episodes."""
    data = setup.data
    weights = setup.stored.weights if setup.stored else setup.network.state_dict()
    lengths = {data.training: epoch_length(task.settings, data.images), data.validation: data.validation_length}
    return [
        Origin(vectors=run.text_digest, weights=checkpoint.digest_of(weights)),
        Origin(precision=precision_of_training(run.config, world.device)),
        *(_origin_of(examples, length) for examples, length in lengths.items() if examples is not None),
    ]


def _origin_of(examples: Any, length: int) -> Origin:
    """Return list and photos of examples, and so many of their episodes if they are some."""
    source = getattr(examples, "sampler", examples)
    drawn = [] if source is examples else [digest(source, length)]
    return Origin(list=source.images.digest, content=source.images.files_digest, episode_digests=drawn)


def _training(run: Run, task: StageTask, world: ProcessGroup, setup: Setup, asked: Asked) -> Training:
    """Return a training before its first step; UserError: settings do not fit."""
    stage = task.settings
    images = setup.data.images
    schedule = StepSchedule.from_settings(stage, epoch_length(stage, images), world.size, f"{task.stage}_stage")
    if setup.stored and asked.allow_changes:
        schedule = schedule_to_continue(schedule, setup.stored, images.digest)
    return Training(
        prepared=prepare_network(
            setup.network, world.device, precision_of_training(run.config, world.device), trained_by=world
        ),
        optimizers=build_optimizers(setup.network.param_groups(), stage.optimizers),
        rules=stage.optimizers,
        ema=EMA(setup.network, stage.ema_decay),
        schedule=schedule,
        world=world,
        accumulate=stage.accumulate,
        seed=run.config.run.seed,
        progress=Progress(**setup.start.cost),
    )


def _checkpoints(run: Run, task: StageTask, training: Training, setup: Setup) -> Checkpoints:
    """Return the observer that writes a stage's checkpoints, which tell config, photos and start, its folder made."""
    config = run.config
    images = setup.data.images
    start = setup.start
    state = {
        "licence": encoder_licence(setup.network),
        "stage": task.stage,
        "config": to_dict(config),
        "list": images.digest,
        "images": len(images.queries),
        "list_note": why_not_whole(images, config.data.name),
        "content": images.files_digest,
        "photos": checkpoint.photos_text(images.photos, before=start.photos),
        "classes": sorted({*(start.classes or ()), *(config.data.classes[c - 1] for c in images.classes)}),
        "base": start.training,
        "initial": start.origin.initial,
        "text": run.text_digest,
        "code": code_of_run(type(setup.network), config.model, config.data, task.settings),
        "networks": checkpoint.digest_of_rest(setup.network),
        "schedule": asdict(training.schedule),
        "precision": training.prepared.precision,
        "trained_by": training.world.size,
        "computed_in": {**setup.stored.training[-1].get("computed_in", {})} if setup.stored else {},
    }
    return Checkpoints(
        folder=RunFolder(task.folder, training.world.is_main, fresh=task.discards),
        state=state,
        validates=task.settings.validate_every > 0 and setup.data.validation is not None,
    )


def _validate(
    network: PreparedNetwork, step: int, *, training: Training, data: StageData, curves: Curves, config: Config
) -> tuple[float, dict[str, Any]]:
    """Return the leading score of a network on the examples that validate a stage, and all of its scores."""
    world = training.world
    length = data.validation_length
    board = Scoreboard(len(data.validation_classes))
    score(
        network,
        data.validation,
        length,
        [board, StopOnSignal(training, length // world.size)],
        world,
        title="validate",
        # The same in all processes, which tell each other after each whether a signal came
        batch=min(
            world.gather(episodes_at_once(config.test.batch, world.device, config.data.shot + 1, config.data.size))
        ),
        workers=config.data.workers,
    )
    scores, _ = board.gather(world)
    curves.scalars("validation", points_of(scores, data.validation_classes), step)
    return scores[FINAL if FINAL in scores else BASE][MIOU], scores


def _observers(
    task: StageTask, checkpoints: Checkpoints, curves: Curves, validate: Validate, registered: list[Any]
) -> list[TrainingObserver]:
    """Return all that looks at a stage's steps, in the order in which it is called."""
    observers: list[TrainingObserver] = [Losses(), curves]
    if checkpoints.validates:
        observers += [Validation(validate, task.settings, checkpoints), Patience(task.settings.patience)]
    elif task.settings.validate_every:
        log.info("no validations: the test list has too few images of the training list's classes")
    return [*observers, *registered, checkpoints]


def _run_loop(training: Training, data: StageData, observers: list[TrainingObserver], workers: int) -> bool:
    """Do the steps that are left and return whether all are done."""
    world = training.world
    numbers = training_numbers(
        training.progress.step,
        training.schedule.steps,
        batch=training.schedule.batch,
        rank=world.rank,
        processes=world.size,
        parts=training.accumulate,
    )
    with closing(batches(data.training, numbers, workers, world.device)) as stream:
        return train_to_end(training, stream, observers)


def _keep_maps(config: Config, task: StageTask, world: ProcessGroup, setup: Setup) -> None:
    """Let a meta stage with fixed views keep its frozen encoder's maps in a file on the disk of the stage's folder.

    The processes share half of what the checkpoints leave of the disk at most.
    """
    network = cast(Method, setup.network)
    if task.settings.views is None or not is_frozen(network):
        return
    needed = CheckpointBytes.of(network, task.settings).peak_bytes
    free = world.from_main(lambda: free_on_disk(config, [task.folder]) - needed)
    gib = min(KEPT_GIB, max(free, 0) / 2 / GIB)
    network.feature_cache = KeptMaps(RecordFile(task.folder, gib / world.size))


def _log_start(training: Training, checkpoints: Checkpoints, run: Run, setup: Setup) -> None:
    """Write config and facts of a training into its folder, with the overrides that it was begun with, and log them."""
    images = setup.data.images
    device = describe(training.world.device)
    precision = training.prepared.precision
    log.info("config: %s", files_of(run.config.source))
    log.info("%s", described(run.config.model))
    checkpoints.folder.describe(
        checkpoints.state["config"],
        images=len(images.queries),
        list=images.digest,
        list_source=images.source,
        list_note=images.note,
        device=device,
        precision=precision,
        **{OPTIONS: run.config.given, RUN: run.config.run.name},
    )
    if setup.note:
        log.info("%s", setup.note)
    speed = "faster" if precision == "bf16" else "no faster"
    chosen = f" (run.precision = auto: bf16 is {speed} here)" if run.config.run.precision == "auto" else ""
    log.info(
        "%s stage on %s in %s%s: %d images, processes: %d",
        checkpoints.state["stage"],
        device,
        precision,
        chosen,
        len(images.queries),
        training.world.size,
    )


def _log_end(task: StageTask, best: float, config: Config) -> None:
    """Log where the weights of a finished stage are, their best validation if there was one, and how to test them."""
    log.info(
        "finished: %s, %s",
        task.folder / BEST,
        "the last weights" if math.isinf(best) else f"best validation {best:.2f} % mIoU",
    )
    if task.stage == "meta":
        log.info("next: python test.py %s", " --set ".join([str(config.source), *map(shlex.quote, config.given)]))


def points_of(scores: dict[str, dict[str, Any]], classes: list[str]) -> dict[str, float]:
    """Return the points of a validation's curves: the scores of each output, and the IoU of each class by its name.

    The base learner's classes have none.
    """
    names = ["background", *classes]
    points = dict[str, float]()
    for output, values in scores.items():
        points |= {f"{output}_{name}": value for name, value in values.items() if name != per_class(MIOU)}
        if output != BASE:
            for class_id, iou in values[per_class(MIOU)].items():
                points[f"{output}_iou/{names[int(class_id)]}"] = iou
    return points
