"""Batches from episode numbers: the numbers of each process, and a loader whose errors are one line."""

import os
import signal
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import pairwise
from multiprocessing.queues import Queue
from typing import Any

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from model.episode import Batch
from model.trial import collate
from util.files.errors import UserError
from util.files.parallel import begin_as_helper, usable_cores

# Phrases of the errors of a loader process that was killed, or that cannot pass a batch on
FAILED = ("DataLoader worker (", "shared memory", "unable to resize file", "Too many open files", "ancdata")
NO_SOCKET = "[Errno 2] No such file or directory"  # at the end of an error that names no file


def training_numbers(
    first_step: int, last_step: int, *, batch: int, rank: int, processes: int, parts: int
) -> Iterator[list[int]]:
    """Yield the numbers of each (partial) batch of a process: step t of all processes covers t G .. (t + 1) G - 1.

    G is ``batch``, split as evenly as possible between processes; each share comes in ``parts`` pieces (gradient
    accumulation).
    """
    ends = [batch * piece // (processes * parts) for piece in range(processes * parts + 1)]
    pieces = [range(start, end) for start, end in pairwise(ends)][rank * parts : (rank + 1) * parts]
    for step in range(first_step, last_step):
        for piece in pieces:
            yield [step * batch + number for number in piece]


def evaluation_numbers(numbers: Sequence[int], batch: int, rank: int, processes: int) -> list[list[int]]:
    """Return the batches of numbers a process evaluates: its share of them, in order; shares differ by one at most."""
    start, end = (len(numbers) * number // processes for number in (rank, rank + 1))
    share = list(numbers[start:end])
    return [share[i : i + batch] for i in range(0, len(share), batch)]


def batches(
    dataset: Dataset, numbers: Iterable[list[int]], workers: int, device: torch.device
) -> Generator[Any, None, None]:
    """Yield the batch of each list of numbers, in order, on ``device``.

    Close the generator where it may be left before its end (``contextlib.closing``): the processes of an open loader
    delay the exit by a minute.

    UserError: a loader process could not read a file or pass a batch on, or was killed.
    """
    loader = DataLoader(
        dataset,
        batch_sampler=numbers,
        num_workers=min(workers, usable_cores()),
        collate_fn=_passed_on,
        pin_memory=device.type != "cpu",
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # so that the loader does not draw from the global random state
    )
    stream: Any = None
    try:
        stream = iter(loader)
        if workers and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler raises anywhere, even inside a checkpoint
        for batch in stream:
            yield batch.to(device)
    except UserError as error:  # torch puts a worker's error behind its traceback
        raise UserError(str(error).rsplit("UserError: ", 1)[-1], local=True) from None
    except (RuntimeError, OSError, EOFError) as error:
        if not _is_of_a_loader_process(error):
            raise
        reason = str(error).rsplit("Error: ", 1)[-1] or type(error).__name__
        raise UserError(
            f"a loader process failed ({reason})",
            fix="lower data.workers, give /dev/shm more space, raise ulimit -n, or name a TMPDIR of at most 70 letters "
            "that nothing empties",
            local=True,
        ) from None
    finally:  # an error keeps a reference to the loader, whose processes outlive the SIGTERM that they get at exit
        getattr(stream, "_shutdown_workers", lambda: None)()


def _passed_on(items: list[Any]) -> Batch:
    """Return the batch of some items; a loader process puts it in shared memory, and fails itself if that is full."""
    batch = collate(items)
    return batch if get_worker_info() is None else batch.each(Tensor.share_memory_)


def _is_of_a_loader_process(error: Exception) -> bool:
    """Return whether an error is of a loader process that was killed or cannot pass a batch on, and not of its data."""
    text = str(error).rstrip()
    is_said = text.endswith(NO_SOCKET) or any(phrase in text for phrase in FAILED)
    return is_said or isinstance(error, EOFError | ConnectionError)


def _start_worker(_: int) -> None:
    """Prepare a loader process: it ignores Ctrl-C, and outlives other signals to stop by 60 seconds at most.

    The main process decides when it ends, and takes it along when it is killed.
    """
    begin_as_helper()
    # Else a batch that cannot be passed on is waited for
    Queue._on_queue_feeder_error = lambda *_: os._exit(1)  # type: ignore[attr-defined]
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, lambda *_: signal.alarm(60))
    cv2.setNumThreads(0)
