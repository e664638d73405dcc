"""The parts of the report by name, in their order, and modules that stand in for two packages that few machines have.

A part is a module with TITLE, NEEDS (packages without which it is skipped), SECONDS (time that its units rarely exceed:
none is begun with less left of the slice), CONTINUES (whether units go on in the next slice),
``units(settings)`` (name -> function of the settings that returns a result for JSON) and ``tables(results)``.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from benchmark.gpu import compiling, environment, loading, methods, out_of_memory, parity, processes, training

PARTS = {
    "environment": environment,
    "parity": parity,
    "methods": methods,
    "compiling": compiling,
    "processes": processes,
    "out_of_memory": out_of_memory,
    "loading": loading,
    "training": training,
}
STAND_INS = Path(__file__).parent / "stand_ins"
REPLACED = {
    "simplejpeg": "photos are not checked for damage",
    "tensorboardX": "no curves are written",
}


def stand_in() -> None:
    """Let modules of ``stand_ins`` be found behind the installed packages, by this process and those that it starts."""
    if str(STAND_INS) not in sys.path:
        sys.path.append(str(STAND_INS))


def replaced() -> dict[str, str]:
    """Return the packages that are not installed and have a stand-in here, and what is lost."""
    stand_in()
    specs = {name: find_spec(name) for name in REPLACED}
    return {n: REPLACED[n] for n, spec in specs.items() if spec and Path(spec.origin or "").parent == STAND_INS}
