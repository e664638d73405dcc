"""A process for each way, which waits for its turn: ours and the reference, each with the allocator that it has alone.

This project's commands set up the allocator (``configure_process``); the published code does not. In one process the
allocator of one would serve both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmark import process
from benchmark.process import set_up_allocator
from benchmark.synthetic import build, episode
from benchmark.timing import WALL, Clock
from benchmark.ways import Run, encoder_pass, make
from util.errors import UserError

ENCODER, EPISODE = "encoder", "episode"  # the functions that a worker measures


@dataclass(frozen=True)
class Task:
    """One way of a case: the functions of a worker, and how they are measured."""

    case: Mapping[str, Any]  # of benchmark/cases.py
    way: str
    threads: int = 1
    device: str = "cpu"
    clock: str = WALL

    def runs(self, device: torch.device) -> dict[str, Run]:
        """Return one pass of an image through the encoder, and one pass of the case's stage over its batch."""
        case, way = self.case, self.way
        network = build(case["model"], case["backbone"], case["size"], case["shots"]).to(device)
        on = episode(case["size"], case["shots"], device, case["batch"])
        return {ENCODER: encoder_pass(way, network, on), EPISODE: make(case["stage"], case["model"], way, network, on)}


class Worker:
    """A process that measures one call when it is asked to; calls before the first are not measured."""

    def __init__(self, task: Task):
        self.task = task
        context: Any = get_context(process.START_METHOD)
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, task), daemon=True)
        self.process.start()
        theirs.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.join()

    def ready(self) -> None:
        """Wait until every function was called once."""
        self._answer()

    def seconds(self, name: str) -> float:
        """Return the seconds of one call of ``ENCODER`` or ``EPISODE``."""
        return self._answer(name)

    def _answer(self, question: str | None = None) -> float:
        """Return what the process sends, after a question.

        Raises:
            UserError: it was ended, usually because memory ran out.
        """
        try:
            if question is not None:
                self.pipe.send(question)
            return self.pipe.recv()
        except (EOFError, OSError):
            raise UserError(
                f"{self.task.way}, {dict(self.task.case)}: its process ended, probably because memory ran out; lower "
                "--size"
            ) from None


def _serve(pipe: Connection, task: Task) -> None:
    """Be the process of a worker."""
    set_up_allocator(task.way, task.case["stage"])
    torch.set_num_threads(task.threads)
    device = torch.device(task.device)
    clock, runs = Clock(device, task.clock), task.runs(device)
    for run in runs.values():
        run()
    pipe.send(0.0)
    while True:  # until it is killed
        pipe.send(clock.of(runs[pipe.recv()]))
