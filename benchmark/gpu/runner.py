"""Runs the units of all parts in order, on a GPU in processes of their own, until all have ended or the slice is over.

A process runs the units of one part one after the other. It ends with the first that fails, since an error on a GPU may
spoil all work that follows in the process; the next process takes the units that are left.
"""

from __future__ import annotations

import gc
import signal
import sys
import time
import traceback
from importlib.util import find_spec
from multiprocessing import get_context
from types import ModuleType
from typing import Any

import torch

from benchmark import process
from benchmark.gpu.parts import PARTS, stand_in
from benchmark.gpu.settings import Settings, Skipped, Unfinished
from benchmark.gpu.state import DONE, FAILED, MAX_STARTS, RUNNING, SKIPPED, UNFINISHED, State
from benchmark.reporting import progress
from util.engine.configure_process import configure_process
from util.engine.device import CUDA
from util.errors import one_line

GRACE = 25  # seconds that a process may outlive its slice
MAX_TRACE = 4000  # characters of a traceback in the report


def run_parts(settings: Settings) -> bool:
    """Run what is left of all parts; return whether every unit has ended, False at the end of the slice."""
    begun = False  # the first unit of a slice is begun in any case, so that every slice does something
    for name, part in PARTS.items():
        while pending(settings, name, part):
            if settings.slice_left() <= (part.SECONDS if begun else 0):
                return False
            begun = True
            before = State(settings.out).units(name)
            if settings.place.type == CUDA:
                _in_a_process(settings, name)
            else:
                work(settings, name)
            after = State(settings.out).units(name)
            if before == after or any(entry["status"] == UNFINISHED for entry in after.values()):
                return False  # no time for another unit in this slice
    return True


def pending(settings: Settings, name: str, part: ModuleType) -> list[str]:
    """Return the units of a part that have not ended; where a package is missing, they end here as skipped."""
    state = State(settings.out)
    stand_in()
    names = [unit for unit in part.units(settings) if not state.has_ended(name, unit)]
    missing = [package for package in part.NEEDS if find_spec(package) is None]
    for unit in names if missing else []:
        state.record(name, unit, SKIPPED, reason=f"not installed: {', '.join(missing)}")
    return [] if missing else names


def work(settings: Settings, name: str) -> bool:
    """Run the pending units of a part in this process; return False after a failure on a GPU."""
    part, state = PARTS[name], State(settings.out)
    units = part.units(settings)
    for number, unit in enumerate(pending(settings, name, part)):
        state = State(settings.out)
        if state.starts(name, unit) >= MAX_STARTS and state.units(name)[unit]["status"] == RUNNING:
            state.record(name, unit, FAILED, error=f"ended its process, or outlived its slice, {MAX_STARTS} times")
            continue
        if not part.CONTINUES and settings.budget_left() < settings.reserved():
            state.record(name, unit, SKIPPED, reason="no time left; the rest of --minutes belongs to the training")
            continue
        if number and settings.slice_left() < part.SECONDS:
            return True
        progress(f"{part.TITLE}: {unit}")
        state.record(name, unit, RUNNING)
        started = time.monotonic()
        entry = _outcome(units[unit], settings)
        state.record(name, unit, **entry, seconds=round(time.monotonic() - started, 2))
        gc.collect()
        if settings.place.type == CUDA:
            if entry["status"] == FAILED:
                return False
            torch.cuda.empty_cache()
        if entry["status"] == UNFINISHED:
            return True
    return True


def _outcome(unit: Any, settings: Settings) -> dict[str, Any]:
    """Return the entry of a unit: its result, or the reason or the error in place of one."""
    try:
        return {"status": DONE, "result": unit(settings)}
    except Skipped as reason:
        return {"status": SKIPPED, "reason": one_line(reason)}
    except Unfinished as reason:
        return {"status": UNFINISHED, "reason": one_line(reason)}
    except ModuleNotFoundError as error:
        return {"status": SKIPPED, "reason": f"not installed: {error.name}"}
    except Exception as error:
        lines = traceback.format_exc()[-MAX_TRACE:]
        return {"status": FAILED, "error": f"{type(error).__name__}: {one_line(error)}", "trace": lines}


def _in_a_process(settings: Settings, name: str) -> None:
    """Run the pending units of a part in a fresh process, which is killed if it outlives the slice."""
    context: Any = get_context(process.START_METHOD)
    child = context.Process(target=_become, args=(settings, name))
    child.start()
    try:
        child.join(max(settings.slice_left(), 0) + GRACE)
    finally:
        if child.is_alive():
            child.kill()
            child.join()
    state = State(settings.out)
    for part, unit, entry in state.with_status(RUNNING):
        if part != name:
            continue
        killed = f"by {signal.Signals(-child.exitcode).name}" if (child.exitcode or 0) < 0 else "from outside"
        late = settings.slice_left() <= 0
        error = "not done at the end of the slice" if late else f"its process was ended {killed}"
        if not late or entry["starts"] >= MAX_STARTS:
            state.record(part, unit, FAILED, error=error)


def _become(settings: Settings, name: str) -> None:
    """Be the process of a part."""
    configure_process()
    stand_in()
    sys.exit(0 if work(settings, name) else 1)
