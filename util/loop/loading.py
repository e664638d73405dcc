"""Batches from episode numbers: the numbers of each process, and a loader that reports its workers' errors."""

import signal
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import pairwise
from multiprocessing.queues import Queue
from typing import Any

import cv2
import torch
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from model.trial import collate
from util.files.errors import UserError
from util.files.parallel import end_with_parent, usable_cores

ROOM = "give /dev/shm more space (docker run --shm-size=8g), lower data.workers, or "
FILES = "raise the number of open files (ulimit -n 65536), or "
PASSING = {  # phrases of an error that keeps a batch in its loader process -> the beginning of the fix
    "AF_UNIX": "name a shorter TMPDIR, of 70 letters at most, or ",
    "shared memory": ROOM,
    "unable to resize file": ROOM,
    "Too many open files": FILES,
    "ancdata": FILES,
}
SHOWN = 160  # characters of an error that are shown


def training_numbers(
    first_step: int, last_step: int, *, batch: int, rank: int, processes: int, parts: int
) -> Iterator[list[int]]:
    """Yield the numbers of each (partial) batch of a process: step t of all processes covers t G .. (t + 1) G - 1.

    G is ``batch``, split as evenly as possible between processes; each share comes in ``parts`` pieces (gradient
    accumulation).
    """
    pieces = _pieces(batch, processes * parts)[rank * parts : (rank + 1) * parts]
    for step in range(first_step, last_step):
        for piece in pieces:
            yield [step * batch + number for number in piece]


def part_weights(batch: int, processes: int, parts: int) -> list[float]:
    """Return the share of each part of all processes in a batch, as ``training_numbers`` splits it."""
    sizes = [len(piece) for piece in _pieces(batch, processes * parts)]
    return [sum(sizes[part::parts]) / batch for part in range(parts)]


def _pieces(batch: int, count: int) -> list[range]:
    """Return the numbers of a batch in pieces, as even as possible."""
    ends = [batch * piece // count for piece in range(count + 1)]
    return [range(start, end) for start, end in pairwise(ends)]


def evaluation_numbers(numbers: Sequence[int], batch: int, rank: int, processes: int) -> list[list[int]]:
    """Return the batches of numbers a process evaluates: its share of them, in order; shares differ by one at most."""
    start = len(numbers) * rank // processes
    end = len(numbers) * (rank + 1) // processes
    share = list(numbers[start:end])
    return [share[i : i + batch] for i in range(0, len(share), batch)]


def batches(
    dataset: Dataset, numbers: Iterable[list[int]], workers: int, device: torch.device
) -> Generator[Any, None, None]:
    """Yield the batch of each list of numbers, in order, on ``device``.

    Close the generator where it may be left before its end (``contextlib.closing``): the processes of an open loader
    delay the exit by a minute.

    UserError: a loader process could not be started, read a file or pass a batch on, or was killed.
    """
    loader = DataLoader(
        dataset,
        batch_sampler=numbers,
        num_workers=min(workers, usable_cores()),
        collate_fn=collate,
        pin_memory=device.type != "cpu",
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # so that the loader does not draw from the global random state
    )
    stream = _started(loader)
    try:
        if workers and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler raises anywhere, even inside a checkpoint
        for batch in stream:
            yield batch.to(device)
    except UserError as error:  # torch puts a worker's error behind its traceback
        raise UserError(str(error).rsplit("UserError: ", 1)[-1], local=True) from None
    except RuntimeError as error:
        reason = str(error).rsplit("Error: ", 1)[-1]  # of a loader process's own error: behind its traceback
        if any(phrase in reason for phrase in PASSING):
            raise _not_passed_on(reason) from None
        if not str(error).startswith("DataLoader worker"):
            raise
        raise _killed(error) from None
    except (EOFError, ConnectionError) as error:  # it was passing a batch on
        raise _killed(error) from None
    finally:  # an error keeps a reference to the loader, whose processes outlive the SIGTERM that they get at exit
        getattr(stream, "_shutdown_workers", lambda: None)()


def _started(loader: DataLoader) -> Iterator[Any]:
    """Return the iterator of a loader, with its processes; UserError: the system starts no more of them."""
    try:
        return _LoaderProcesses(loader) if loader.num_workers else iter(loader)
    except (OSError, EOFError) as error:  # EOF: of the process that forks them
        problem = f"the loader processes cannot be started ({getattr(error, 'strerror', None) or error})"
        raise UserError(f"{problem}: lower data.workers, or set it to 0", local=True) from None


class _LoaderProcesses(_MultiProcessingDataLoaderIter):
    """The batches of loader processes, none of which remains where one of them cannot be started."""

    def __init__(self, loader: DataLoader):
        try:
            super().__init__(loader)
        except BaseException:
            self._shutdown = True  # else torch would end what it has not made yet, and print that it failed
            for process in getattr(self, "_workers", ()):  # which would delay the exit by a minute
                process.kill()
            raise


def _start_worker(_: int) -> None:
    """Prepare a loader process: it ignores Ctrl-C, and outlives other signals to stop by 60 seconds at most.

    The main process decides when it ends, and takes it along when it is killed.
    """
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, lambda *_: signal.alarm(60))
    cv2.setNumThreads(0)
    Queue._on_queue_feeder_error = _send_reason  # type: ignore[attr-defined]  # as concurrent.futures does


def _send_reason(queue: Queue, error: Exception, item: Any) -> None:
    """Send the main process an error in place of a batch that cannot be passed on, which it would wait for."""
    number, *_ = item
    reported = _not_passed_on(" ".join(str(error).split()))
    queue.put((number, ExceptionWrapper((UserError, reported, None), "in a loader process")))


def _killed(error: Exception) -> UserError:
    fix = "lower data.workers and repeat the command, a training with --resume"
    problem = f"a loader process was killed ({str(error) or type(error).__name__})"
    return UserError(f"{problem}, perhaps for lack of memory or of /dev/shm: {fix}", local=True)


def _not_passed_on(reason: str) -> UserError:
    fix = next((fix for phrase, fix in PASSING.items() if phrase in reason), "")
    return UserError(f"a loader process cannot pass a batch on ({reason[:SHOWN]}): {fix}set data.workers=0", local=True)
