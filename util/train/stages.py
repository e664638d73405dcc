"""The two training commands, base stage and meta stage: data, network and what they start from, then the loop."""

import logging
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict
from functools import partial
from typing import Any, cast

from model.code import code_of
from model.contract import FewShotModel, Trainable
from model.encode import Method
from model.registry import described
from util import cli
from util.config import command_line
from util.config.compose import files_of
from util.config.place import DISCARDED
from util.config.read import to_dict
from util.config.settings import Config, StageSettings
from util.data.episodes import EpisodeDataset
from util.data.lists.image_list import ImageList
from util.evaluate.evaluate import BASE, FINAL, Observer, Scoreboard, run_pass
from util.files.errors import EXIT_INTERRUPTED, UserError
from util.run import checkpoint
from util.run.checkpoint import Checkpoint, Facts, Stored, checkpoint_bytes, free_bytes
from util.run.data import StageData, base_stage_data, epoch_length, meta_stage_data
from util.run.device import compute_in_fixed_order, describe, episodes_at_once, precision_of_training
from util.run.folder import RunFolder
from util.run.loading import batches, training_numbers
from util.run.network import PreparedNetwork, prepare_network
from util.run.processes import join
from util.run.run import OPTIONS, RUN, Run
from util.run.weights import encoder_licence, init_network, initial_digest
from util.train import hooks
from util.train.curves import Curves, check_writers
from util.train.examples import Examples
from util.train.kept_features import GIB, KeptMaps, RecordFile, check_keeps_maps
from util.train.optim import EMA, StepSchedule, build_optimizers
from util.train.trainer import train

log = logging.getLogger("symnet")
PER_CLASS = "per_class"  # of the scores of an output: class id -> IoU


def command(stage: str, description: str | None) -> int:
    """Run a stage, base or meta, as a command line asks, or print its config; return the exit code."""
    parser = command_line.parser(description)
    cli.add_training_options(parser)
    if stage == "meta":
        cli.add_start(parser)
    options = parser.parse_args()
    if command_line.show(options):
        return 0
    return train_stage(
        stage,
        command_line.read(options),
        resume=options.resume,
        overwrite=options.overwrite,
        base=getattr(options, "checkpoint", None),
        allow_changes=options.allow_changes,
    )


def train_stage(
    name: str,
    config: Config,
    *,
    resume: bool,
    overwrite: bool,
    base: str | None = None,
    allow_changes: bool = False,
) -> int:
    """Run a stage, base or meta, and return the exit code.

    Args:
        name: of the stage.
        config: of the run.
        resume: continue from the newest checkpoint of the stage's folder.
        overwrite: start again in a folder that is in use.
        base: a base-stage checkpoint that the meta stage starts from, in place of the run's own.
        allow_changes: resume although settings that decide the result were changed.

    UserError: the model has no such stage, its folder is in use, or what it needs is missing or wrong.
    """
    key = f"{name}_stage"
    with join(config.run.device, f"{key}.batch, {key}.size or data.workers") as world:
        if config.run.deterministic:
            compute_in_fixed_order()
        run = Run(config)
        if resume:
            run = run.with_training_options(name)
        config = run.config
        context = run.context
        stage = _stage_settings(config, name)
        run.at(name).check_free(resume, overwrite)
        check_writers(config.run.loggers)
        model, note, start = init_network(run, name, resume, base)  # fails before photos are read
        data = base_stage_data(context, stage, world) if name == "base" else meta_stage_data(context, world)
        schedule = StepSchedule.from_settings(stage, epoch_length(stage, data.images), world.size, key)
        network = model.base_stage() if name == "base" else model
        notes = [note, _freeze_norms(network, stage, key), context.text_note]
        prepared = prepare_network(
            network,
            world.device,
            precision_of_training(config, world.device),
            config.run.compile,
            processes=world.size,
        )
        optimizers = build_optimizers(network.param_groups(), stage.optimizers)
        ema = EMA(network, stage.ema_decay)
        kept_file = _kept_file(run, stage, data, prepared, processes=world.size, overwrite=overwrite)
        state = _checkpoint_facts(run, name, network, data.images, start)
        if not resume:  # else the checkpoint knows
            state["initial"] = None if base else initial_digest(run, name)
        state["schedule"] = asdict(schedule)
        state["precision"] = prepared.precision
        discard = None if resume else partial(_discard_tests, run, name)
        folder = RunFolder(run.folder(name), world.is_main, fresh=overwrite, at_start=discard)
        curves = Curves(folder.path, config.run.loggers if world.is_main else (), state["config"])
        training = hooks.Training(
            prepared=prepared,
            optimizers=optimizers,
            ema=ema,
            stage=stage,
            schedule=schedule,
            state=state,
            folder=folder,
            world=world,
            curves=curves,
        )
        try:
            if resume:
                hooks.resume(training, allow_changes)
            log.info("config: %s", files_of(config.source))
            log.info("%s", described(config.model))
            _describe(training, data.images, config.given)
            _log_start(training, data.images, notes)
            at_once = partial(episodes_at_once, config.test.batch, world.device, config.data.shot + 1, config.data.size)
            validate = _validation(training, data, at_once)
            with closing(_batches(training, data, kept_file)) as stream:
                finished = train(training, stream, validate, config.run.seed)
            if kept_file:
                log.info("encoder: %s", kept_file)
        finally:
            curves.close()
            folder.close()
        return 0 if finished else EXIT_INTERRUPTED


train_base, train_meta = partial(train_stage, "base"), partial(train_stage, "meta")


def _discard_tests(run: Run, stage: str) -> None:
    """Let no table show the tests of weights of a stage that are about to be replaced."""
    count = run.discard_tests(stage)
    if count:
        log.info("tests of the weights that were there, kept as %s and in no table: %d", DISCARDED, count)


def _stage_settings(config: Config, name: str) -> StageSettings:
    """Return the settings of a stage; UserError if the model has none."""
    stage = config.base_stage if name == "base" else config.meta_stage
    if stage is None:
        raise UserError(f"{config.source}: this model has no base learner and so no base stage; run train.py")
    return stage


def _freeze_norms(network: Trainable, stage: StageSettings, key: str) -> str:
    """Freeze a network's batch norms where its stage, the config's section ``key``, says so; return a note, or ''."""
    if not stage.freeze_norm:
        return ""
    return f"{key}.freeze_norm: freezes {network.freeze_norms()} batch norms that would have been trained"


def _kept_file(
    run: Run, stage: StageSettings, data: StageData, prepared: PreparedNetwork, *, processes: int, overwrite: bool
) -> RecordFile | None:
    """Return the file on the disk of the meta stage's folder that keeps the encoder's maps; None: none is to be kept.

    The processes share half of what the checkpoints leave of the disk at most.
    """
    if stage.cache_gib is None:
        return None
    check_keeps_maps(cast(EpisodeDataset, data.training), cast(FewShotModel, prepared.network))
    folder = run.folder("meta")
    free = free_bytes(run.config) - Stored.of(cast(Trainable, prepared.network), stage).peak_bytes
    if not overwrite:
        free += checkpoint_bytes([folder])
    gib = min(stage.cache_gib, max(free, 0) / 2 / GIB)
    return RecordFile(folder, gib / processes)


def _checkpoint_facts(
    run: Run, name: str, network: Trainable, images: ImageList, start: Checkpoint | None
) -> dict[str, Any]:
    """Return the entries of a stage's checkpoints that tell its config, photos, texts and base stage (``start``)."""
    before = Facts(photos=frozenset()) if start is None else start.facts
    photos = None if before.photos is None else checkpoint.photos_text(images.photos | before.photos)
    return {
        "licence": encoder_licence(run.config.model.encoder, network),
        "stage": name,
        "config": to_dict(run.config),
        "list": images.digest,
        "content": images.files_digest,
        "photos": photos,
        "base": before.training,
        "text": run.context.text_digest,
        "code": code_of(type(network)),
    }


def _describe(training: hooks.Training, images: ImageList, options: list[str]) -> None:
    """Write the config and the facts of a training into its folder, with the overrides that it was begun with."""
    config = training.state["config"]
    facts = {
        "images": len(images.queries),
        "list": images.digest,
        "list_source": images.source,
        "list_note": images.note,
        "device": describe(training.world.device),
        "precision": training.prepared.precision,
        OPTIONS: options,
        RUN: config["run"]["name"],
    }
    training.folder.describe(config, **facts)


def _log_start(training: hooks.Training, images: ImageList, notes: list[str]) -> None:
    """Log the notes on a training's start, and where it runs."""
    world = training.world
    for note in filter(None, notes):
        log.info("%s", note)
    stage = training.state["stage"]
    place = f"{describe(world.device)} in {training.prepared.precision}"
    log.info("%s stage on %s: %d images, processes: %d", stage, place, len(images.queries), world.size)


def _batches(training: hooks.Training, data: StageData, kept_file: RecordFile | None) -> Generator[Any, None, None]:
    """Return the batches of the steps that are left to this process."""
    schedule = training.schedule
    world = training.world
    numbers = training_numbers(
        training.progress.step,
        schedule.steps,
        batch=schedule.batch,
        rank=world.rank,
        processes=world.size,
        parts=training.stage.accumulate,
    )
    network = training.prepared.network
    if kept_file:
        cast(Method, network).kept_maps = KeptMaps(kept_file)
    return batches(data.training, numbers, data.workers, world.device)


def _validation(training: hooks.Training, data: StageData, at_once: Callable[[], int]) -> hooks.Validate | None:
    """Return the validation of a stage, of ``at_once`` examples a batch; None where none is wanted or possible."""
    if not training.stage.validate_every:
        return None
    if data.held_out is None:
        log.info("no validations: the test list has too few images of the training list's classes")
        return None
    return partial(_validate, training, data, at_once)


def _validate(
    training: hooks.Training, data: StageData, at_once: Callable[[], int], network: PreparedNetwork, step: int
) -> tuple[float, dict[str, Any]]:
    """Score a network on the held-out examples of its stage, draw the first; return the leading score and all."""
    world = training.world
    length = data.validation_length
    batch = at_once()
    batch_of_dataset = 1 if getattr(data.held_out, "one_by_one", False) else batch
    board = Scoreboard(len(data.held_out_classes))
    examples = Examples(8)
    watch = hooks.Watch(training, length // world.size // batch_of_dataset)
    observers: list[Observer] = [board, examples, watch]
    run_pass(network, data.held_out, length, observers, world, title="validate", batch=batch, workers=data.workers)
    scores, _ = board.gather(world)
    training.curves.scalars("validation", points_of(scores, data.held_out_classes), step)
    for number, picture in sorted(entry for pictures in world.gather(examples.shown) for entry in pictures.items()):
        training.curves.image(f"validation/{number}", picture, step)
    leading = FINAL if FINAL in scores else BASE
    return scores[leading]["miou"], scores


def points_of(scores: dict[str, dict[str, Any]], classes: list[str]) -> dict[str, float]:
    """Return the points of a validation's curves: the scores of each output, and the IoU of each class by its name.

    The base learner's own classes have none.
    """
    names = ["background", *classes]
    points = dict[str, float]()
    for output, values in scores.items():
        points |= {f"{output}_{name}": value for name, value in values.items() if name != PER_CLASS}
        if output != BASE:
            for class_id, iou in values[PER_CLASS].items():
                points[f"{output}_iou/{names[int(class_id)]}"] = iou
    return points
