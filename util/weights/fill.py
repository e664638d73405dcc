"""Load the tensors of a file, whoever wrote it, into a network or its encoder."""

from collections.abc import Iterable
from dataclasses import asdict

from torch import Tensor

from model.contract import FewShotMethod, Trainable
from model.decides import Decides
from model.encoders.encoder import Encoder
from model.encoders.layouts import load_encoder, recognise
from model.mismatch import ModelMismatch
from model.published import COUNTER
from util.config.same import differences, in_words
from util.files.errors import UserError, as_user_error
from util.weights.checkpoint import Checkpoint

KEYS = "model.name, model.encoder and the model's other settings, data.name, data.folds, data.shot and data.text"
CLASSIFIER = 6  # tensors at most beside an encoder's in a file of ImageNet weights


def fill(network: Trainable | Encoder, stored: Checkpoint, partial: bool = False) -> list[str]:
    """Fill a network with the tensors of a file, ours, an authors' or an encoder's; return the names that it lacks.

    Args:
        network: a method or its base stage, which every tensor must fit; or an encoder, which a file may hold among
            others and in any layout that circulates.
        stored: the file, read once.
        partial: the encoder's file may lack tensors, which keep their values.

    Raises:
        UserError: the file is of another network, or a tensor is missing, unknown, of another shape or not finite.
    """
    if isinstance(network, Encoder):
        with as_user_error(ModelMismatch, before=f"{stored.path}: "):
            return load_encoder(network, stored.weights, partial)
    given = _under_names_of(network, stored)
    expected = network.stored_state()
    if problem := _misfits(given, expected):
        encoder = recognise(stored.weights) if stored.is_unknown else None
        if encoder and len(stored.weights) <= len(encoder[2].given) + CLASSIFIER:
            raise UserError(f"{stored.path}: looks like weights of an encoder alone; name a checkpoint of a training")
        problem = "; ".join([problem, *_other_settings(network, stored)])
        raise UserError(f"{stored.path}: not weights of this model as configured: {problem}; check {KEYS}")
    filled = {name: given.get(name, tensor).to(tensor.device) for name, tensor in expected.items()}
    network.load_state_dict({**network.state_dict(), **filled})
    return []


def _under_names_of(network: Trainable, stored: Checkpoint) -> dict[str, Tensor]:
    """Return the tensors of a file under a network's names."""
    if _without_counters(stored.named) == _without_counters(network.stored_state()):
        return stored.named  # perhaps of a part that is called like a wrapper
    if stored.config is not None or not isinstance(network, FewShotMethod) or network.published is None:
        return stored.weights
    return network.published.translate(stored.weights) or stored.weights


def _misfits(given: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    """Say which tensors of a file and of a network do not meet; '' if all do."""
    missing = [name for name in _without_counters(expected) if name not in given]
    unknown = [name for name in _without_counters(given) if name not in expected]
    if missing and unknown:
        names = _without_counters(expected)
        return (
            f"{len(names) - len(missing)} of {len(names)} names of the model are in the file, "
            f"which has {unknown[0]}, the model {missing[0]}"
        )
    if missing or unknown:
        return f"{missing[0]} is missing" if missing else f"{unknown[0]} is unknown"
    problems = (_misfit(name, given[name], tensor) for name, tensor in expected.items() if name in given)
    return next(filter(None, problems), "")


def _other_settings(network: Trainable, stored: Checkpoint) -> list[str]:
    """Return the settings of a method that its file was trained with otherwise, in words; none of a file of others."""
    if stored.config is None or not isinstance(network, FewShotMethod):
        return []
    before, now = {"model": stored.config.get("model", {})}, {"model": asdict(network.settings)}
    return in_words(differences(before, now, Decides.SCORES))


def _without_counters(names: Iterable[str]) -> dict[str, None]:
    """Return names of tensors, in their order, but for the counters of batch norms, which no file must have."""
    return {name: None for name in names if not name.endswith(COUNTER)}


def _misfit(name: str, given: Tensor, expected: Tensor) -> str:
    """Explain why a tensor of a file does not fit that of a network; '' if it does."""
    if expected.shape != given.shape:
        return f"{name} has shape {tuple(given.shape)}, expected {tuple(expected.shape)}"
    if expected.is_floating_point() != given.is_floating_point() or not given.isfinite().all():
        return f"{name} does not hold finite numbers of the right kind"
    return ""
