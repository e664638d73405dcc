"""The start of a training's stage, and whether a run takes the training of a stage that is there already."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from model.contract import FewShotMethod
from model.decides import Decides
from util.config.same import in_words
from util.files.errors import UserError
from util.files.launcher import is_first_of_machine
from util.run.data import images_for_training
from util.run.folder import BEST
from util.run.run import ALLOW, Run
from util.run.weights import check_fits
from util.weights import checkpoint
from util.weights.checkpoint import Checkpoint
from util.weights.code import code_of_run
from util.weights.encoders import (
    classes_of,
    digest_of_files,
    encoders_of,
    photos_of_encoders,
    start_encoders,
    starts_of,
)
from util.weights.fill import fill
from util.weights.may_differ import CONTINUED, FINISHED
from util.weights.origin import Origin
from util.weights.sources import SOURCES


def load_initial(
    run: Run, network: FewShotMethod, stage: str, base: str | Path | None = None, *, downloads: bool = True
) -> tuple[str, Checkpoint]:
    """Fill a new model with what a run's stage starts from; return a line for the log, and that.

    The base stage, and a model without one, start from the encoder's weights; the meta stage otherwise starts from the
    base stage's checkpoint. All files together, beside those of known releases, are returned as one checkpoint without
    tensors; its ``origin.initial`` is None where they are none, or where ``base`` alone is one.

    Args:
        run: whose stage it is.
        network: the model, with random values.
        stage: base or meta.
        base: the base stage's checkpoint; default that of the run, if it is still what the run would train.
        downloads: weights of a release are fetched; else they are taken to be there.

    Raises:
        UserError: the weights are missing or do not fit.
    """
    if stage == "meta" and run.model_class.has_base_stage():
        filled = encoders_of(network.base_stage())  # before, since it lets them learn
        stored = _fill_base_stage(run, network, base)
        note, files = start_encoders(run.config, network, filled, downloads=downloads)
        return "; ".join(filter(None, [f"base stage: {stored.path}", note])), Checkpoint(
            stored.path,
            {},
            origin=Origin(initial=digest_of_files(files if base else [stored, *files])),
            photos=None if stored.photos is None else photos_of_encoders([stored, *files]),
            classes=classes_of([stored, *files], run.config.data.name),
            training=stored.training,
            cost=stored.cost,
        )
    beside = set[str]()
    if stage == "base":  # which methods share, whatever else they have
        beside = encoders_of(network).keys() - encoders_of(network.base_stage()).keys()
    note, files = start_encoders(run.config, network, beside, downloads=downloads)
    return note, Checkpoint(
        Path(),
        {},
        origin=Origin(initial=digest_of_files(files)),
        photos=photos_of_encoders(files),
        classes=classes_of(files, run.config.data.name),
    )


def _fill_base_stage(run: Run, network: FewShotMethod, base: str | Path | None) -> Checkpoint:
    """Fill the parts of a model's base stage from a checkpoint, default the run's, and return that."""
    start = Path(base or run.folder("base") / BEST)
    if base is None and not start.exists():
        raise UserError(
            f"{start}: the base stage's checkpoint does not exist",
            fix="train it first (--stage base), or name one with --checkpoint",
        )
    stored = checkpoint.read(start)
    check_fits(stored, run.config, "base")
    fill(network.base_stage(), stored)
    network.requires_grad_(True)  # which the base stage has left as it learns
    network.freeze()
    if base is None and is_first_of_machine() and (refusal := why_refused(run, "base", stored)):
        raise UserError(refusal)
    return stored


def why_refused(run: Run, stage: str, stored: Checkpoint, finished: bool = True) -> str:
    """Explain why a run does not take a training of a stage that is there; '' if it does.

    It was trained with other settings, data, code or initial weights than are here today. A training that continues is
    asked for its schedule, observers and precision by ``check_continues``.

    Args:
        run: that might take it.
        stage: base or meta.
        stored: its checkpoint.
        finished: whether the training is.
    """
    if stored.config is None:
        return ""
    other_stage = "meta_stage" if stage == "base" else "base_stage"
    may_differ = FINISHED[stage] if finished else CONTINUED
    found = in_words(run.differences(stored.config, Decides.WEIGHTS, (other_stage, *may_differ.settings)))
    skipped = may_differ.facts if finished and run.shared(stored) else ()
    found += stored.origin.differences(training_origin_today(run, stage), skipped)
    if not found:
        return ""
    other = "run.base_folder" if stage == "base" and run.config.run.base_folder else "run.name"
    continued = (
        f"a training that is finished is not continued by {ALLOW}"
        if finished
        else f"if its steps are the same, {ALLOW} continues it"
    )
    fix = f"undo the change, train it again by --stage {stage} --overwrite, or set another {other}; {continued}"
    return f"{stored.path.parent}: the {stage} stage was trained with {', '.join(found)}; {fix}"


def training_origin_today(run: Run, stage: str) -> Origin:
    """Return the origin of a training of a stage as it would begin today, as far as what it needs is here."""
    config = run.config
    images = cache(lambda: images_for_training(run, progress=False, stage=getattr(config, f"{stage}_stage")))
    facts: dict[str, Callable[[], Any]] = {
        "list": lambda: images().digest,
        "content": lambda: images().files_digest,
        "initial": lambda: initial_digest(run, stage),
    }
    if stage != "base":  # whose code, and text, are not those of one method
        facts["vectors"] = lambda: run.text_digest
        facts["code"] = lambda: code_of_run(run.model_class, config.model, config.data, config.meta_stage)
    return Origin.today(facts)


def initial_digest(run: Run, stage: str) -> str | None:
    """Return the digest of the tensors that a stage's training would start from today; None: of no file.

    UserError: their file is missing or damaged.
    """
    starts = starts_of(run.config.model)
    paths = {key: start.weights for key, start in starts.items() if stage == "meta" or key == "encoder"}
    if stage == "meta" and run.model_class.has_base_stage():
        paths["encoder"] = str(run.folder("base") / BEST)
    return digest_of_files(checkpoint.read(path) for path in paths.values() if path is not None and path not in SOURCES)
