"""The weights of a run: the start of a training, and the checkpoint that a test or a prediction loads."""

import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from model.contract import FewShotModel, Trainable
from model.encoders.registry import downloadable
from model.mismatch import ModelMismatch
from model.registry import class_of, published_layout
from util.checkpoints import checkpoint
from util.checkpoints import run as runs
from util.checkpoints.download import SOURCES, checksum_of, download, licence_of, pretraining_of
from util.checkpoints.run import BEST, OWN, TRAINING_FREE, Run, StageFolder, changed_entries, in_words
from util.config.folds import MAX_INDEX, Fold, has_class_maps
from util.config.read import from_dict, to_dict
from util.config.settings import Config
from util.errors import UserError
from util.runtime.context import RunContext
from util.runtime.data import listed_for_training
from util.runtime.device import gpu_count
from util.runtime.network import build_model


@dataclass(frozen=True)
class Weights:
    """A record of the weights in a network: where they came from and how they were trained."""

    source: str  # the path of a checkpoint, or ``training-free`` or ``untrained``
    trained_with: dict[str, Any] | None  # data settings, ``model`` section and precision of the training, if known
    digest: str  # of all named tensors
    parameters: tuple[int, int]  # the number of the network's, and of those that its last training stage learnt
    note: str  # a line for the log, such as the tensors of the encoder that stayed random
    encoder_licence: str | None  # of the weights that the encoder started from, where it is known
    encoder_data: str | None  # the data that those weights were trained on, where it is known
    training: list[dict[str, Any]] = field(default_factory=list)  # see ``checkpoint.training_of``
    training_differences: list[str] = field(
        default_factory=list
    )  # what the training had otherwise, see ``Run.training_differences``


def init_network(
    run: Run, stage: str, resume: bool, base: str | Path | None = None
) -> tuple[FewShotModel, str, list[dict[str, Any]]]:
    """Return the model as a run's stage starts from it, a line for the log, and how its start was trained.

    The base stage, and a model without one, start from the encoder's weights; the meta stage otherwise starts from the
    base stage's checkpoint, the run's own if it is still what the run would train, or ``base``. A run that resumes
    starts from random values, which its own checkpoint replaces.

    UserError: the weights are missing or do not fit; ``base`` is given to a model without a base stage; or the model
    learns from the base classes of a photo, and the data set has a mask of one class.
    """
    config, context, model_class = run.config, run.context, run.context.model_class
    if problem := cannot_train(config):
        raise UserError(f"{config.path}: {problem}; take another data set or method")
    if model_class.generalised and stage == "meta":
        raise UserError(f"{config.path}: {model_class.title} has only a base stage: use train_base.py or train.sh")
    if base is not None and not model_class.has_base_stage:
        raise UserError(f"{base}: this model ({model_class.title}) starts from no base-stage checkpoint; leave it out")
    network = build_model(config, context.text_width)
    if resume:
        return network, "", []
    if stage == "base" or not model_class.has_base_stage:
        return network, fill_encoder(config, network), []
    start = Path(base or run.folder("base") / BEST)
    if not start.exists():
        fix = f"train it first: python train_base.py {config.path}, or name one with --checkpoint"
        raise UserError(f"{start}: the base stage's checkpoint does not exist; {fix}")
    content = load_checkpoint(context, network, "base", start)
    asks = base is None and checkpoint.is_own(content) and os.environ.get("RANK", "0") == "0"
    if asks and (refusal := trained_otherwise(run, "base", start.parent, content)):
        raise UserError(refusal)
    return network, f"base stage: {start}", checkpoint.training_of(content)


def trained_otherwise(run: Run, stage: str, folder: Path, content: dict[str, Any], finished: bool = True) -> str:
    """Return in words why a run does not take a training of a stage that is there; '' if it does.

    It was trained with other settings; if it is finished, also on another list or other photos, with other text vectors
    or from other initial weights, as far as today's are here to compare. A training that continues is asked for these
    by ``check_continues``. A base stage with other settings of data and run, which runs share, has a list of its own.
    """
    differences, now = in_words(run.differing(content["config"], stage)), dict[str, Any]()
    if finished and not run.shared(content):
        with suppress(UserError):
            images = listed_for_training(run.config, getattr(run.config, f"{stage}_stage"))
            now |= {"data": images.digest, "content": images.files_digest}
    with suppress(UserError):
        if finished and stage == "meta":
            now["text"] = run.context.text_digest
    with suppress(UserError):
        if finished and content.get("start"):
            base = run.folder("base") / BEST if stage == "meta" and run.context.model_class.has_base_stage else None
            now["start"] = digest_of_start(init_network(run, stage, False, base)[0], stage)
    if not (differences := [*differences, *changed_entries(content, now)]):
        return ""
    last = "name its file with --checkpoint" if stage == "base" else "set another run.name"
    fix = f"undo the change, train it again with --overwrite, or {last}"
    fix += "" if finished else f"; if its steps are the same, {runs.ALLOW} continues it"
    return f"{folder}: the {stage} stage was trained with {', '.join(differences)}; {fix}"


def digest_of_start(network: FewShotModel, stage: str) -> str | None:
    """Return the digest of the files that a stage's training starts from; None: random weights, or a known release."""
    has_base, start = stage == "meta" and type(network).has_base_stage, network.settings.encoder
    if not has_base and (start is None or start.weights is None or start.weights in SOURCES):
        return None
    loaded = ("encoder.", "base_learner.") if has_base else "encoder."
    return checkpoint.digest_of({name: x for name, x in network.state_dict().items() if name.startswith(loaded)})


def cannot_train(config: Config) -> str:
    """Return in words why a method cannot be trained on a data set; '' if it can."""
    data, cls = config.data, class_of(config.model)
    if cls.reads_base_labels and not has_class_maps(vars(data)):
        has = f"data set {data.name} has masks of one class each and no folds, or more classes"
        return f"{cls.title} learns from maps of at most {MAX_INDEX} base classes; {has}"
    return f"data set {data.name} is for tests: data.train_list is null" if data.train_list is None else ""


def mend_of_missing(path: Path, backbone: str | None) -> str:
    """Return in words how to get a missing file of an encoder's weights, and what works without it."""
    run = path.parent.parent.name  # of runs/<data set>_<experiment>_<encoder>/base/<file>
    if path.parent.name == "base" and run.count("_") >= 2:
        dataset, experiment, net = run.split("_", 2)
        return f"train it first: NET={net} sh train.sh {experiment} {dataset} {gpu_count()}"
    digits = checksum_of(path.name)
    checksum = "" if digits is None else f" (its SHA-256 begins with {digits})"
    plain = "--set model.encoder.stem=plain --set model.encoder.weights=torchvision"
    ways = f", or run python prepare.py weights {backbone} and add {plain}" if backbone in downloadable() else ""
    return f"put it there{checksum}, initmodel/README.md says where it comes from; or take NET=lite0{ways}"


def fill_encoder(config: Config, network: FewShotModel) -> str:
    """Fill the model's encoder as the config asks; return a line for the log that names the tensors left random.

    A checkpoint of another fold of this data set may have seen novel classes. UserError: the weights are missing, which
    says how to get them, of another encoder, or of another fold.
    """
    start = config.model.encoder
    if start is None and config.model.backbone():
        return f"networks: {config.model.backbone()}; licence of the weights: {network.licence}"
    if start is None or start.weights is None:
        return "encoder: random weights (none are named)"
    path, downloaded = Path(start.weights), start.weights in SOURCES
    if not downloaded and not path.exists():
        raise UserError(f"{path}: these weights do not exist; {mend_of_missing(path, config.model.backbone())}")
    content = {} if downloaded else checkpoint.read(path)
    if checkpoint.is_own(content) and not config.test.allow_fold_mismatch:
        trained, now = content["config"]["data"], to_dict(config)["data"]
        other = [f"{k} = {trained.get(k)}, now {now[k]}" for k in checkpoint.FOLD if trained.get(k) != now[k]]
        if trained.get("name") == now["name"] and other:
            raise UserError(f"{path}: an encoder trained with {', '.join(other)}; {checkpoint.FOLD_HINT}")
    try:
        given = start.weights, start.backbone, network.encoder.torchvision
        state = download(*given) if downloaded else checkpoint.weights_of(content)
        missing = network.load_encoder(state, start.partial)
    except ModelMismatch as error:
        raise UserError(str(error) if downloaded else f"{path}: {error}") from None
    licence = encoder_licence(config, network)
    complete = f"{len(missing)} tensors start from random values: {', '.join(missing)}" if missing else "complete"
    return f"encoder: {start.weights}, {complete}" + (f"; licence of the weights: {licence}" if licence else "")


def encoder_licence(config: Config, network: Trainable) -> str | None:
    """Return the licence of the weights that the encoder started from; None: it has none, or it is not known here."""
    start, encoder = config.model.encoder, getattr(network, "encoder", None)
    own = getattr(network, "licence", None)
    return licence_of(start.weights, encoder) if start is not None and encoder is not None else own


def load_weights(context: RunContext, side: int | None = None) -> tuple[FewShotModel, Weights]:
    """Return the network of ``test.checkpoint`` for images of ``side`` (default ``data.size``), and its record.

    UserError: the checkpoint is missing, damaged, or of another model, data set, fold or number of shots.
    """
    config, run, start = context.config, Run(context.config), context.config.model.encoder
    source = run.weights
    if source == TRAINING_FREE and config.test.checkpoint not in (*OWN, runs.NO_CHECKPOINT):
        raise UserError(f"{config.test.checkpoint}: this method is not trained and loads no checkpoint; leave it out")
    if isinstance(source, Path) and not source.exists() and source.parent == run.folder("meta"):
        fix = f"train them with --set data.shot={config.data.shot}, or name others with --checkpoint"
        raise UserError(f"{source}: these weights do not exist; {fix}")
    content = checkpoint.read(source) if isinstance(source, Path) else {}
    trained = content["config"] if checkpoint.is_own(content) else {}
    classes = None
    if trained and config.test.trained_on is not None:  # another data set, with other base classes
        classes = len(Fold.of(from_dict(trained, str(source)).data).base)
    network, note, otherwise = build_model(config, context.text_width, side, classes), "", list[str]()
    if isinstance(source, str):
        note = fill_encoder(config, network)
    elif context.model_class.generalised:
        load_base_learner(context, network, source, content)
    else:
        load_checkpoint(context, network, "meta", source, content)
        changed = runs.changed_settings(trained["model"], to_dict(config)["model"]) if trained else []
        note = f"the model was trained with other settings: {', '.join(changed)}" if changed else ""
    known = None
    if trained:
        known = {**trained["data"], "model": trained["model"], "precision": checkpoint.precision_of(content)}
        given = trained["model"].get("encoder") or {}
        if "weights" in given:
            start = replace(start, weights=given["weights"], pretraining=given.get("pretraining"))
        otherwise = _otherwise(run, content, Path(source).parent)
        note = f"the training had other settings: {'; '.join(otherwise)}" if otherwise else note
    encoder, parameters, data = getattr(network, "encoder", None), [*network.parameters()], config.model.pretraining
    if start is not None and encoder is not None:
        data = pretraining_of(start.weights, encoder, start.pretraining)
    learnt = sum(p.numel() for p in parameters if p.requires_grad and content)
    counts, digest = (sum(p.numel() for p in parameters), learnt), checkpoint.digest_of(network.state_dict())
    about = encoder_licence(config, network), data, checkpoint.training_of(content), otherwise
    return network, Weights(str(source), known, digest, counts, note, *about)


def _otherwise(run: Run, content: dict[str, Any], folder: Path) -> list[str]:
    """Return in words what a result says of the training of one of our checkpoints: other settings, or not finished."""
    out = in_words(run.training_differences(content)) if run.weights_origin != runs.FOREIGN else []
    training = checkpoint.training_of(content)
    if training and not content.get("finished") and not StageFolder(folder).finished:
        step, steps = training[-1]["step"], training[-1]["steps"]
        if step != steps or run.weights_origin != runs.FOREIGN:
            out.append(f"not finished (step {step} of {steps})")
    return out


def load_checkpoint(
    context: RunContext, network: FewShotModel, stage: str, path: str | Path, content: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Fill a model (``stage`` meta) or its base stage's parts (base) from a checkpoint; return the file's content.

    ``content``: of the file, if it has been read. UserError: the file is missing, damaged, or of another stage, model,
    encoder, data set, fold or text vectors.
    """
    content = content or checkpoint.read(path)
    checkpoint.check_identity(content, context.config, stage, str(path))
    if stage == "meta" and (other := changed_entries(content, {"text": context.text_digest})):
        raise UserError(f"{path}: was trained with {other[0]} than data.text = {context.config.data.text}")
    target = network if stage == "meta" else network.base_stage()
    checkpoint.load_state(target, checkpoint.weights_of(content), str(path))
    if stage == "base":
        network.requires_grad_(True)
        network.freeze()
    return content


def load_base_learner(context: RunContext, network: FewShotModel, path: Path, content: dict[str, Any]) -> None:
    """Fill encoder and base learner, all that a model has, from a checkpoint of any stage and method that holds both.

    UserError: the file holds none, or of another encoder, data set or fold.
    """
    checkpoint.check_identity({**content, "stage": "base"}, context.config, "base", str(path))
    state = checkpoint.weights_of(content)
    layout = published_layout(state)
    state = (layout.translate(state) if layout else None) or state
    own = {name: x for name, x in state.items() if name.startswith(("encoder.", "base_learner."))}
    if not any(name.startswith("base_learner.") for name in own):
        fix = "the best.pth of a base stage (train_base.py), or weights of a method that has one, such as BAM"
        raise UserError(f"{path}: holds no base learner; name {fix}")
    checkpoint.load_state(network.base_stage(), own, str(path))
    network.freeze()
