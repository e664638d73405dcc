"""The end of a run whose processes are not all alive: a killed process ends the others within a minute.

Collective operations of torch may wait half an hour for a process that is gone, without running Python's signal
handlers. Therefore every process holds a connection to rank 0, and a thread that waits for its end: the system closes
the connections of a killed process.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from torch import distributed

from util.errors import EXIT_USER_ERROR, PEER_LOST

START = timedelta(seconds=30)  # all processes of a run join it within this time
GRACE = 5  # seconds in which a process may find the error itself and say it
DONE = b"."  # the last word of a process that ends as it should
PORT = "watch"  # key of the store


@contextmanager
def watched(store: distributed.Store, rank: int, size: int) -> Iterator[None]:
    """End this process if another one of the run ends inside the block without having left it.

    Raises:
        OSError: a process cannot be reached within ``START``.
    """
    connections = _connections(store, rank, size)
    for connection in connections:  # a loader process may live longer
        os.register_at_fork(after_in_child=connection.close)
    threading.Thread(target=_wait, args=(connections,), daemon=True).start()
    yield
    for connection in connections:
        with suppress(OSError):
            connection.sendall(DONE)


def _connections(store: distributed.Store, rank: int, size: int) -> list[socket.socket]:
    """Return the connections of rank 0 to all others, or that of another rank to rank 0."""
    seconds = START.total_seconds()
    if rank:
        address = os.environ["MASTER_ADDR"], int(store.get(PORT))
        out = [socket.create_connection(address, timeout=seconds)]
    else:
        with socket.create_server(("", 0), backlog=size) as server:
            server.settimeout(seconds)
            store.set(PORT, str(server.getsockname()[1]))
            out = [server.accept()[0] for _ in range(size - 1)]
    for connection in out:
        connection.settimeout(None)
    return out


def _wait(connections: list[socket.socket]) -> None:
    """Wait until all connections said that they are done; end the process when one breaks before."""
    left = list(connections)
    while left:
        for connection in select.select(left, [], [])[0]:
            left.remove(connection)
            said = b""
            with suppress(OSError):
                said = connection.recv(1)
            if said != DONE:
                time.sleep(GRACE)
                if os.environ.get("LOCAL_RANK", "0") == "0":
                    print(f"stopped: {PEER_LOST}", file=sys.stderr, flush=True)
                os._exit(EXIT_USER_ERROR)
