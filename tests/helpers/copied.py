"""A copy of the repository in which shell scripts run as a user types them; its ``python`` is forked where all is
imported, so that a command takes a tenth of a second to start.

Run as a script, this module is the process that is forked.
"""

import contextlib
import gc
import importlib
import json
import multiprocessing
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from pathlib import Path

from tests.helpers.paths import REPOSITORY

TIMEOUT = 600  # seconds of a document; a machine may be busy
MADE = {"runs", "data", "cache"}  # by commands, in the repository's folder
forks = multiprocessing.get_context("fork")
OFFLINE = {"PIP_NO_INDEX": "1", "HF_HUB_OFFLINE": "1"}
IMPORTED = (  # what commands import, of the copy; not the methods, to which a reader adds one
    *("timm", "torchvision.models", "matplotlib.figure", "matplotlib.backends.backend_agg", "tensorboardX"),
    *("predict", "prepare", "test", "train", "report", "photos.page", "util.launch"),
)
PYTHON = """#!{python} -SE
import json, os, signal, socket, sys

if sys.argv[1:3] in (["-m", "pip"], ["-m", "venv"]):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
asked = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(asked).to_bytes(4, "big")], [0, 1, 2])
server.sendall(asked)
answers = server.makefile()
child = int(answers.readline())
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: os.kill(child, number))
sys.exit(int(answers.readline()))
"""


@dataclass
class Copy:
    """A copy of the repository, with an environment in ``.venv`` whose python is forked."""

    folder: Path

    def type(self, script: str) -> str:
        """Run a shell script in the copy and return all that it says; AssertionError if it fails."""
        path = os.pathsep.join((f"{self.folder}/.venv/bin", os.environ["PATH"]))
        done = subprocess.run(
            ["sh", "-e", "-c", script],
            cwd=self.folder,
            env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **OFFLINE},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, f"{script}\nended with {done.returncode}:\n{done.stdout[-3000:]}"
        return done.stdout


def _left_behind(folder: str, names: list[str]) -> set[str]:
    """Return what of a folder of the repository is not copied."""
    made = MADE if Path(folder) == REPOSITORY else set()
    return made | {name for name in names if name.startswith((".", "__pycache__"))}


@contextlib.contextmanager
def copied(folder: Path) -> Iterator[Copy]:
    """Give a copy of the repository in a new folder, whose python can be run until the end of the context."""
    shutil.copytree(REPOSITORY, folder, ignore=_left_behind)
    with tempfile.TemporaryDirectory() as place:
        address = str(Path(place, "python"))  # a socket's path is short
        programs = folder / ".venv/bin"
        programs.mkdir(parents=True)
        for name in ("python", "python3"):
            (programs / name).write_text(PYTHON.format(python=sys.executable, address=address))
            (programs / name).chmod(0o755)
        words = [sys.executable, "-m", "tests.helpers.copied", address, f"{programs}/python"]
        with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stdin=subprocess.PIPE) as server:
            try:
                assert server.stdout.readline() == b"ready\n"
                yield Copy(folder)
            finally:
                server.kill()


def serve(address: str, python: str) -> None:
    """Fork for each command that is asked for."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    while True:
        client, _ = listener.accept()
        size, streams, _, _ = socket.recv_fds(client, 4, 3)
        asked = json.loads(client.makefile("rb").read(int.from_bytes(size, "big")))
        child = forks.Process(target=_become, args=(*asked, streams, python))
        child.start()
        for stream in streams:
            os.close(stream)
        threading.Thread(target=_answer, args=(client, child), daemon=True).start()


def _answer(client: socket.socket, child: ForkProcess) -> None:
    """Tell a client the number of its process and, when that has ended, its exit code."""
    with client, contextlib.suppress(BrokenPipeError):
        client.sendall(f"{child.pid}\n".encode())
        child.join()
        code = child.exitcode
        client.sendall(f"{code if code >= 0 else 128 - code}\n".encode())


def _become(words: list[str], folder: str, environment: dict[str, str], streams: list[int], python: str) -> None:
    """Do what an interpreter does that is started in a folder with an environment."""
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    sys.executable = python
    _run(words)


def _run(words: list[str]) -> None:
    """Run the words that follow ``python``: a script or a module with arguments, or code."""
    sys.argv = words
    if words[0] == "-m":
        sys.argv = words[1:]
        sys.modules.pop(words[1], None)  # the module that runs is another one
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        exec(words[1], {"__name__": "__main__"})
    else:
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    for name in IMPORTED:
        importlib.import_module(name)
    sys.path.append(str(Path("package").resolve()))  # as if it were installed
    gc.freeze()  # what is imported stays: a fork need not read it, nor copy its pages
    serve(*sys.argv[1:])
