"""The weights of a run: the start of a training, and the checkpoint that a test or a prediction loads."""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model.code import code_of
from model.contract import FewShotMethod
from model.decides import Decides
from model.registry import class_of, related
from util.config.folds import MAX_INDEX, Fold, has_class_maps
from util.config.read import to_dict
from util.config.same import Differences, differences, in_words
from util.config.settings import Config, DataSettings
from util.files.errors import UserError
from util.files.launcher import is_first_of_machine
from util.files.typecheck import convert
from util.run import run as runs
from util.run.build import build_model
from util.run.data import listed_for_training
from util.run.run import BEST, OWN, TRAINING_FREE, Run, StageFolder
from util.weights import checkpoint
from util.weights.checkpoint import Checkpoint, Facts
from util.weights.encoders import FOLD_HINT, encoder_data, encoder_licence, fill_encoder
from util.weights.origin import Origin
from util.weights.sources import SOURCES

FOLD = "data.fold"  # the beginning of the settings that decide which classes are novel
SHOWN = 5  # differences of a training in a message


@dataclass(frozen=True)
class Weights:
    """A record of the weights in a network: where they came from and how they were trained."""

    source: str  # the path of a checkpoint, or ``training-free`` or ``untrained``
    trained_with: dict[str, Any] | None  # data settings and ``model`` section of the training, if known
    digest: str  # of all named tensors
    parameters: tuple[int, int]  # the number of the network's, and of those that its last training stage learnt
    note: str  # a line for the log, such as the tensors of the encoder that stayed random
    encoder_licence: str | None  # of the weights that the encoder started from, where it is known
    encoder_data: str | None  # the data that those weights were trained on, where it is known
    training: list[dict[str, Any]]  # of each stage
    photos: frozenset[str] | None  # digests of those that it was trained on; None: not known
    finished: bool  # whether its training is
    training_differences: list[str]  # what the training had otherwise, in words
    fold_differs: bool  # whether it was trained on another fold


def init_network(
    run: Run, stage: str, resume: bool, base: str | Path | None = None
) -> tuple[FewShotMethod, str, Checkpoint | None]:
    """Return the model as a run's stage starts from it, a line for the log, and the base stage's checkpoint, if any.

    The base stage, and a model without one, start from the encoder's weights; the meta stage otherwise starts from the
    base stage's checkpoint.

    Args:
        run: whose stage it is.
        stage: base or meta.
        resume: the model gets random values, which the run's own checkpoint replaces.
        base: the base stage's checkpoint; default that of the run, if it is still what the run would train.

    Raises:
        UserError: the weights are missing or do not fit; ``base`` is given to a model without a base stage; or the
            model learns from the base classes of a photo, and the data set has a mask of one class.
    """
    _check_start(run, base)
    network = build_model(run.config, run.text_width)
    if resume:
        return network, "", None
    note, stored = fill_at_start(run, network, stage, base)
    return network, note, stored


def fill_at_start(
    run: Run, network: FewShotMethod, stage: str, base: str | Path | None = None, *, downloads: bool = True
) -> tuple[str, Checkpoint | None]:
    """Fill a model with what a stage starts from; return as ``init_network``, errors as there.

    ``downloads``: weights of a release are fetched; else they are taken to be there.
    """
    _check_start(run, base)
    if stage == "base" or not run.model_class.has_base_stage():
        encoder = run.config.model.encoder
        is_fetched = encoder is not None and encoder.weights in SOURCES
        return fill_encoder(run.config, network) if downloads or not is_fetched else "", None
    start = Path(base or run.folder("base") / BEST)
    if base is None and not start.exists():
        fix = "train it first (--stage base), or name one with --checkpoint"
        raise UserError(f"{start}: the base stage's checkpoint does not exist; {fix}")
    stored = checkpoint.read(start)
    load_checkpoint(run, network, "base", stored)
    if base is None and is_first_of_machine() and (refusal := refusal_to_take(run, "base", stored)):
        raise UserError(refusal)
    return f"base stage: {start}", stored


def _check_start(run: Run, base: str | Path | None) -> None:
    """Refuse (UserError) a data set that the model cannot be trained on, and a base stage for a model without one."""
    source = run.config.source
    model_class = class_of(run.config.model)
    if problem := cannot_train(run.config):
        raise UserError(f"{source}: {problem}; take another data set or method")
    if base is not None and not model_class.has_base_stage():
        fix = "leave the checkpoint out; to continue a training write --resume"
        raise UserError(f"{base}: {model_class.title} has no base stage to start from; {fix}")


def refusal_to_take(run: Run, stage: str, stored: Checkpoint, finished: bool = True) -> str:
    """Explain why a run does not take a training of a stage that is there; '' if it does.

    It was trained with other settings; if it is finished, also with other data, code or initial weights than are here
    today. A training that continues is asked for these by ``check_continues``.

    Args:
        run: that might take it.
        stage: base or meta.
        stored: its checkpoint.
        finished: whether the training is.
    """
    if stored.config is None:
        return ""
    other_stage = "meta_stage" if stage == "base" else "base_stage"
    may_differ: tuple[str, ...] = (runs.PRECISION,)
    if finished:
        may_differ = runs.RUN_SETTINGS if stage == "base" else runs.TEST_SETTINGS
    found = in_words(run.differences(stored.config, Decides.WEIGHTS, (other_stage, *may_differ)))
    if finished:
        found += stored.facts.origin.differences(
            origin_today(run, stage), skip=("list", "content") if run.shared(stored) else ()
        )
    if not found:
        return ""
    last = "name its file with --checkpoint" if stage == "base" else "set another run.name"
    fix = f"undo the change, train it again with --overwrite, or {last}"
    if not finished:
        fix += f"; if its steps are the same, {runs.ALLOW} continues it"
    return f"{stored.path.parent}: the {stage} stage was trained with {shown(found)}; {fix}"


def shown(found: list[str]) -> str:
    """Return the first of some differences on one line, and how many more there are."""
    more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return ", ".join([*found[:SHOWN], *more])


def origin_today(run: Run, stage: str) -> Origin:
    """Return the origin of a training of a stage as it would begin today, as far as what it needs is here."""
    now = Origin()
    with suppress(UserError):
        images = listed_for_training(run.config, getattr(run.config, f"{stage}_stage"))
        now = replace(now, list=images.digest, content=images.files_digest)
    with suppress(UserError):
        now = replace(now, initial=initial_digest(run, stage))
    if stage == "base":  # whose code, and text, are not those of one method
        return now
    with suppress(UserError):
        now = replace(now, vectors=run.text_digest)
    return replace(now, code=code_of(class_of(run.config.model)))


def initial_digest(run: Run, stage: str) -> str | None:
    """Return the digest of the tensors that a stage's training starts from; None: random, or of a known release.

    UserError: their file is missing or damaged.
    """
    encoder = run.config.model.encoder
    if stage == "meta" and class_of(run.config.model).has_base_stage():
        path: str | Path = run.folder("base") / BEST
    elif encoder is None or encoder.weights is None or encoder.weights in SOURCES:
        return None
    else:
        path = encoder.weights
    return checkpoint.digest_of(checkpoint.read(path).weights)


def cannot_train(config: Config) -> str:
    """Explain why a method cannot be trained on a data set; '' if it can."""
    data = config.data
    model_class = class_of(config.model)
    if model_class.reads_base_labels and not has_class_maps(vars(data)):
        has = f"data set {data.name} has masks of one class each and no folds, or more classes"
        return f"{model_class.title} learns from maps of at most {MAX_INDEX} base classes; {has}"
    return f"data set {data.name} is for tests: data.train_list is null" if data.train_list is None else ""


def load_weights(run: Run, side: int | None = None, stored: Checkpoint | None = None) -> tuple[FewShotMethod, Weights]:
    """Return the network of ``test.checkpoint``, and the record of its weights.

    Args:
        run: whose weights they are.
        side: of its images in pixels, default ``data.size``.
        stored: a checkpoint that was read already, taken if it is the one.

    Raises:
        UserError: the checkpoint is missing, damaged, or of another model, data set, fold or number of shots.
    """
    config = run.config
    source = run.weights
    _check_source(run, source)
    if isinstance(source, str):
        network = build_model(config, run.text_width, side)
        note = fill_encoder(config, network)
        stored = Checkpoint(Path(source), weights={}, facts=Facts(photos=frozenset()))
        other: list[str] = []
        finished = True
        learnt = 0
        fold_differs = False
    else:
        if stored is None or stored.path != source:
            stored = checkpoint.read(source)
        network = build_model(config, run.text_width, side, _base_classes(run, stored))
        of_others = load_checkpoint(run, network, "meta", stored)
        fold_differs = any(key.startswith(FOLD) for key in of_others)
        other = _differences_of_training(run, stored)
        finished = _is_finished(run, stored)
        note = _note_on_training(run, stored, other, finished)
        learnt = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return network, Weights(
        source=str(source),
        trained_with=stored.config and {**stored.config["data"], "model": stored.config["model"]},
        digest=checkpoint.digest_of(network.state_dict()),
        parameters=(sum(p.numel() for p in network.parameters()), learnt),
        note=note,
        encoder_licence=encoder_licence(network.settings.encoder, network),
        encoder_data=encoder_data(network, stored.config),
        training=stored.facts.training,
        photos=stored.facts.photos,
        finished=finished,
        training_differences=other,
        fold_differs=fold_differs,
    )


def _note_on_training(run: Run, stored: Checkpoint, differences: list[str], finished: bool) -> str:
    """Return the line on a training that had other settings, or a model of others, or is not finished; else ''."""
    of_model = None if stored.config is None else {"model": stored.config["model"]}
    changed = differences or in_words(run.differences(of_model, Decides.SCORES))
    words = [] if finished else ["the training is not finished"]
    if changed:
        words.append(f"the training had other settings: {'; '.join(changed)}")
    return "; ".join(words)


def _base_classes(run: Run, stored: Checkpoint) -> int | None:
    """Return the base classes of weights of another data set (``test.trained_on``); None: those of the run's fold."""
    if run.config.test.trained_on is None or stored.config is None:
        return None
    return len(Fold.of(convert(DataSettings, stored.config["data"], "data")).base)


def _check_source(run: Run, source: Path | str) -> None:
    """Refuse (UserError) a checkpoint of a method that is not trained, and one of the run's own that is missing."""
    wanted = run.config.test.checkpoint
    if source == TRAINING_FREE and wanted not in (*OWN, runs.NO_CHECKPOINT):
        raise UserError(f"{wanted}: this method is not trained and loads no checkpoint; leave test.checkpoint out")
    if isinstance(source, Path) and not source.exists() and source.parent == run.folder("meta"):
        fix = f"train them with --set data.shot={run.config.data.shot}, or name others with --set test.checkpoint=FILE"
        raise UserError(f"{source}: these weights do not exist; {fix}")


def _differences_of_training(run: Run, stored: Checkpoint) -> list[str]:
    """Say which other settings or code the training of one of our checkpoints had."""
    differing = run.training_differences(stored)
    if run.weights_origin == runs.FOREIGN:  # another training has other settings; that it was of another method is said
        differing = {key: values for key, values in differing.items() if key == "model.name"}
    found = in_words(differing)
    if "model.name" not in differing:
        found += stored.facts.origin.differences(Origin(code=code_of(run.model_class)))
    return found


def _is_finished(run: Run, stored: Checkpoint) -> bool:
    """Return whether the training of a checkpoint is; of a file of another run its last step tells it too."""
    if not stored.is_own or stored.facts.finished or StageFolder(stored.path.parent).finished:
        return True
    last = stored.facts.training[-1]
    return run.weights_origin == runs.FOREIGN and last["step"] == last["steps"]


def load_checkpoint(run: Run, network: FewShotMethod, stage: str, stored: Checkpoint) -> Differences:
    """Fill a model or its base stage's parts from a checkpoint; return the settings that may differ, and do.

    Args:
        run: whose weights they are.
        network: that is filled.
        stage: meta, for the whole model, or base.
        stored: the checkpoint.

    Raises:
        UserError: it is of another stage, model, encoder, data set, fold or text vectors.
    """
    found = check_fits(stored, run.config, stage)
    if stage == "base":
        checkpoint.load_state(network.base_stage(), stored)
        network.requires_grad_(True)
        network.freeze()
        return found
    if stored.facts.origin.differences(Origin(vectors=run.text_digest)):
        asked = f"data.text = {run.config.data.text}"
        raise UserError(f"{stored.path}: was trained with other text vectors than {asked}; set those")
    if stored.facts.origin.differences(Origin(networks=checkpoint.digest_of_rest(network))):
        asked = f"model.weights = {run.config.model.backbone()}"
        raise UserError(f"{stored.path}: was trained over other weights than {asked}; name those")
    checkpoint.load_state(network, stored)
    return found


def check_fits(stored: Checkpoint, config: Config, stage: str) -> Differences:
    """Refuse one of our own checkpoints that is of another stage, model, encoder, data set or fold.

    The model's name is not compared in the base stage, whose checkpoints models share; a model may also load weights of
    the model that it extends, if the tensors fit. With ``test.trained_on`` the checkpoint of a meta
    stage is of that data set, with other classes and folds; of this one, with other folds.

    Args:
        stored: the checkpoint; an authors' file has no config, its tensors decide.
        config: of this run.
        stage: that the checkpoint must be of: base or meta.

    Returns:
        The settings that may differ, and do.

    Raises:
        UserError: names the first setting that differs.
    """
    if stored.config is None:
        return {}
    if stored.stage != stage:
        problem = f"is of the {stored.stage} stage, one of the {stage} stage is needed"
        fix = "; to continue its training write --resume and no checkpoint" if stage == "base" else ""
        raise UserError(f"{stored.path}: {problem}{fix}")
    now = to_dict(config)
    now["data"]["name"] = config.test.trained_on or now["data"]["name"]
    found = differences(stored.config, now, Decides.IDENTITY)
    for key, (given, wanted) in found.items():
        is_related = key == "model.name" and (stage == "base" or related(given, wanted))
        if not is_related and not key.startswith(_may_differ(config, stage)):
            hint = _hint(key, given, stage)
            raise UserError(f"{stored.path}: was trained with {key} = {given}, this run has {wanted}; {hint}")
    return found


def _may_differ(config: Config, stage: str) -> tuple[str, ...]:
    """Return the beginnings of the settings in which a checkpoint of a stage may differ from a run."""
    if config.crosses_data_sets:
        return ("data.classes", FOLD)
    return (FOLD,) if stage == "meta" and config.takes_other_folds else ()


def _hint(key: str, given: Any, stage: str) -> str:
    """Return how to go on with a checkpoint of a stage that has another value of a setting."""
    if stage == "meta" and key.startswith(FOLD):
        return FOLD_HINT
    if stage == "meta" and key == "data.name":
        return f"to test weights of another data set: --set test.trained_on={given}"
    return "name a checkpoint of such a run"
