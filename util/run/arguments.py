"""The words of ``train.sh`` and ``test.sh``: EXPERIMENT DATASET GPUS [text vectors] [checkpoint]."""

from __future__ import annotations

import os
import shlex
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path

from util.config.compose import CHOICE
from util.config.tree import override
from util.data.words.text import SUFFIXES
from util.files.errors import UserError
from util.files.launcher import place_of_process
from util.run import checkpoint
from util.run.device import CUDA, gpu_count, gpu_problem


@dataclass(frozen=True)
class Words:
    """The words of a command line, of which those after the config's may be absent."""

    config: list[str]  # a file, or an experiment and a data set
    gpus: int | None = None  # of this machine; 0: the CPU
    checkpoint: str | None = None
    settings: list[str] = field(default_factory=list)  # overrides: the device, the text vectors

    @classmethod
    def of(cls, words: list[str]) -> Words:
        """Return what words mean; UserError: one of them means nothing."""
        if len(words) < 3:
            return cls(words)
        experiment, dataset, number, *others = words
        if not number.isascii() or not number.isdecimal():
            raise UserError(f"'{number}' is no number of GPUs; name EXPERIMENT DATASET GPUS, such as split0 pascal 4")
        gpus = int(number)
        checkpoints = [word for word in others if _is_checkpoint(word)]
        texts = [word for word in others if word not in checkpoints]
        if len(checkpoints) > 1 or len(texts) > 1:
            raise UserError(f"'{' '.join(others)}': name text vectors and a checkpoint at most")
        settings = [f"run.device={CUDA if gpus else 'cpu'}"]
        for text in texts:
            _check_text(text)
            settings.append(override("data.text", text))
        return cls([experiment, dataset], gpus, next(iter(checkpoints), None), settings)


def read_words(options: Namespace) -> Words:
    """Take the words of a command line apart: its config stays in the options, with the settings of the others."""
    words = Words.of(options.config)
    options.config = words.config
    options.overrides = [*words.settings, *options.overrides]
    return words


def check_processes(words: Words) -> None:
    """Refuse (UserError) GPUs without a process for each, which the shell scripts start."""
    started = place_of_process().local_size
    if words.gpus == 0 and started > 1:
        fix = "for several leave the 0 out, and add --set run.device=cpu"
        raise UserError(f"0 GPUs mean one process on the CPU, but {started} started; {fix}")
    if words.gpus is not None and max(words.gpus, 1) != started:
        raise UserError(
            f"{words.gpus} GPUs need {words.gpus} processes, but {started} started; use train.sh or test.sh"
        )


def _is_checkpoint(word: str) -> bool:
    return word.endswith(checkpoint.ENDINGS) or (Path(word) / checkpoint.MODEL).exists()


def _check_text(word: str) -> None:
    """Refuse (UserError) a word that can be neither a checkpoint nor text vectors."""
    if "=" in word:
        raise UserError(f"'{word}': write --set before a setting")
    if ("/" in word or Path(word).is_file()) and not word.endswith(SUFFIXES):
        endings = ", ".join(checkpoint.ENDINGS)
        raise UserError(f"'{word}' is neither a name of text vectors nor a checkpoint (a file {endings})")


def check_gpus(gpus: int, command: list[str]) -> None:
    """Refuse (UserError) more GPUs than this machine has, and those that its torch cannot use.

    ``command``: a script and its arguments, whose third is the number of GPUs.
    """
    problem = gpu_problem() if gpus else ""
    if problem:
        raise UserError(f"{gpus} GPUs were asked for: {problem}; or {_on_gpus(0, command)} on the CPU")
    available = gpu_count()
    if gpus <= available:
        return
    if not available:
        raise UserError(f"this machine has no GPU; write 0 for the CPU: {_on_gpus(0, command)}")
    has = f"this machine has {available}, and {gpus} says how many, not which: {_on_gpus(available, command)}"
    raise UserError(f"{has}; for one of them: CUDA_VISIBLE_DEVICES={available - 1} {_on_gpus(1, command)}")


def _on_gpus(gpus: int, command: list[str]) -> str:
    """Return what to type for a command, a script and its arguments, on another number of GPUs."""
    script, experiment, dataset, _, *others = command
    choice = {name: os.environ.get(name) for name in CHOICE}
    names = "".join(f"{name}={shlex.quote(value)} " for name, value in choice.items() if value)
    return f"{names}sh {script} {shlex.join([experiment, dataset, str(gpus), *others])}"
