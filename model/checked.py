"""Whether what a method returns keeps its contract (``Output``): a mistake in it is one line that names the method."""

import inspect
from collections.abc import Sequence
from typing import Any, NoReturn

from torch import Tensor

from model.contract import Trainable
from model.episode import Episode, Output
from model.mismatch import ModelMismatch


def checked(output: Any, network: Trainable, inputs: Sequence[Any]) -> Output:
    """Return what a network returned for the episodes of n competing classes, or for labelled images.

    ModelMismatch: it is no ``Output``, or the logits of episodes or the losses are not those of one.
    """
    classes = len(inputs) if isinstance(inputs[0], Episode) else 0
    if problem := _problem(output, classes) or (_problem_of_losses(output) if network.training else ""):
        refuse(network, f"predict's output {problem}")
    return output


def refuse(method: Trainable, problem: str) -> NoReturn:
    """Refuse (ModelMismatch) what a method returned, by its name and file."""
    raise ModelMismatch(f"{type(method).__name__} ({inspect.getfile(type(method))}): {problem}")


def _problem(output: Any, classes: int) -> str:
    """Return what is wrong with the logits of n classes (0: any logits), and how to mend it; "" if nothing is."""
    if not isinstance(output, Output):
        return f"is a {type(output).__name__}; return Output(logits)"
    for name, x in {"logits": output.logits, **output.extra}.items():
        if classes and not (isinstance(x, Tensor) and x.ndim == 4 and x.shape[1] == classes + 1):
            wanted = f"(B, {classes + 1}, S, S), background first; other maps as pictures"
            return f"has {name} {_in_words(x)}; return {wanted}"
    return ""


def _problem_of_losses(output: Output) -> str:
    """Return what is wrong with the losses of a training step, and how to mend it; "" if nothing is."""
    for name, loss in output.losses.items():
        if not isinstance(loss, Tensor) or loss.ndim:
            return f"has losses['{name}'] {_in_words(loss)}; return its mean, a tensor without dimensions"
    if unknown := {*output.image_losses} - output.losses.keys():
        return f"has image_losses '{min(unknown)}', which is none of its losses ({', '.join(output.losses)})"
    return "" if output.losses else 'has no losses in training; set output.losses = {"main": mask_loss(...)}'


def _in_words(value: Any) -> str:
    return f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"of type {type(value).__name__}"
