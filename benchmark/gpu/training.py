"""Part 8: Sym-Net is trained for as long as the budget lasts, and EfficientNet-Lite0 by its recipe; scored on fold 0.

The data are PASCAL's if ``data/VOC2012`` is there, else the drawn ones. A training that a slice ends continues in the
next one from its checkpoint, as with --resume.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.gpu.meter import Utilisation
from benchmark.gpu.methods import busy
from benchmark.gpu.recipes import BASE, BATCH, META, QUICK, RECIPES, Notes, Recipe, config_of, draw
from benchmark.gpu.settings import Settings, Skipped, Unfinished
from benchmark.reporting import Table
from util.errors import EXIT_INTERRUPTED, UserError

if TYPE_CHECKING:
    from util.config.settings import Config

TITLE = "training"
NEEDS = ("cv2", "yaml", "tqdm", "safetensors", "scipy")
SECONDS, CONTINUES = 60, True
SHARES = {BASE: 0.3, META: 0.5}  # of the time that is left; the rest is for probes, test and files
PROBES = (5, 45)  # steps; the difference of their times has no warm-up in it
QUICK_STEPS = 2
MARGIN, LEAST = 15, 45  # seconds: for the checkpoint at the end of a slice; without which a slice is not used
TEST_SECONDS = 90


def units(settings: Settings) -> dict[str, Any]:
    """Return a unit for each recipe."""
    recipes = QUICK if settings.quick else RECIPES
    return {name: partial(_trained, name, recipe) for name, recipe in recipes.items()}


def tables(results: dict[str, dict[str, Any]]) -> dict[str, Table]:
    """Return lengths, rates and scores."""
    header = [
        "training",
        "data",
        "px",
        "base steps, min",
        "meta steps, min",
        "episodes / s",
        "GPU busy, set-up included",
    ]
    header += ["mIoU", "FB-IoU", "episodes"]
    lines = []
    for name, row in results.items():
        stages = [f"{row[s]['steps']}, {row[s]['minutes']:.1f}{'' if row[s]['finished'] else ', cut'}" for s in BATCH]
        rate = row[META]["steps"] * row["batch"] / max(60 * row[META]["minutes"], 1e-9)
        scores = [f"{row['miou']:.1f}", f"{row['fb_iou']:.1f}", str(row["episodes"])]
        lines.append([name, row["data"], str(row["side"]), *stages, f"{rate:.1f}", busy(row["utilisation"]), *scores])
    return {"fold 0, one shot": (header, lines)} if lines else {}


def _trained(name: str, recipe: Recipe, settings: Settings) -> dict[str, Any]:
    """Return the record of a training and its scores.

    Raises:
        Unfinished: the slice is over.
    """
    from util.engine.testing import test

    if recipe.needs and find_spec(recipe.needs) is None:
        raise Skipped(f"not installed: {recipe.needs}")
    if not settings.quick and settings.slice_left() < LEAST:
        raise Unfinished("goes on in the next slice")
    notes = Notes(settings.work / "training" / f"{name}.json")
    with _ending(settings):
        draw(settings)
        if recipe.fills_budget:
            _plan(name, recipe, settings, notes)
        for stage in BATCH:
            _stage(stage, config_of(name, recipe, settings, notes), settings, notes)
    if not settings.quick and settings.slice_left() < TEST_SECONDS and notes.get("waited") is None:
        notes.put("waited", True)
        raise Unfinished("is scored in the next slice")
    config = config_of(name, recipe, settings, notes)
    (result,) = test(config)
    final = result["mean"]["final"]
    return {
        "data": result["dataset"],
        "side": config.data.size,
        "batch": config.meta_stage.batch,
        **{stage: _record(stage, config, notes) for stage in BATCH},
        "utilisation": notes.share(),
        "precision": config.run.precision,
        "episodes": result["episodes"],
        **{key: final[key] for key in ("miou", "fb_iou")},
    }


@contextmanager
def _ending(settings: Settings) -> Iterator[None]:
    """Let SIGTERM come before the slice is over: a training then writes its checkpoint, all else ends at once."""

    def stop(*_: object) -> None:
        raise Unfinished("goes on in the next slice")

    before = signal.signal(signal.SIGTERM, stop)
    timer = threading.Timer(max(settings.slice_left() - MARGIN, 1), os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGTERM, before)


def _plan(name: str, recipe: Recipe, settings: Settings, notes: Notes) -> None:
    """Note the number of steps of both stages, so that they take their shares of the budget that is left."""
    from util.engine.folders import METRICS

    if notes.get(f"{META} steps"):
        return
    left = max(settings.budget_left(), settings.reserved() / 2)
    for stage, share in SHARES.items():
        steps = QUICK_STEPS
        if not settings.quick:
            minutes = []
            for count in PROBES:
                config = config_of(name, recipe, settings, notes, count)
                if not _is_done(stage, config):
                    _train(stage, config)
                minutes.append(json.loads((_folder(stage, config) / METRICS).read_text())["minutes"])
            seconds = max(60 * (minutes[1] - minutes[0]) / (PROBES[1] - PROBES[0]), 1e-3)
            steps = max(int(share * left / seconds), PROBES[1])
        notes.put(f"{stage} steps", steps)


def _stage(stage: str, config: Config, settings: Settings, notes: Notes) -> None:
    """Train a stage to its end, or if the budget is spent to the end of the slice.

    Raises:
        Unfinished: the slice is over.
    """
    if _is_done(stage, config) or notes.get(f"{stage} cut"):
        return
    used = Utilisation(settings.place)
    with used:
        code = _train(stage, config)
    notes.add_utilisation(used)
    if code != EXIT_INTERRUPTED:
        return
    if stage == META and settings.budget_left() <= MARGIN:
        notes.put(f"{stage} cut", True)
    raise Unfinished("goes on in the next slice")


def _train(stage: str, config: Config) -> int:
    """Begin or continue a stage; return its exit code.

    Raises:
        UserError: the stage failed.
    """
    from util.engine.folders import LAST, PREVIOUS
    from util.engine.training import train_base, train_meta

    folder = _folder(stage, config)
    resume = any((folder / name).exists() for name in (LAST, PREVIOUS))
    code = (train_base if stage == BASE else train_meta)(config, resume, not resume)
    if code not in (0, EXIT_INTERRUPTED):
        raise UserError(f"{folder}: the training ended with code {code}")
    return code


def _folder(stage: str, config: Config) -> Path:
    from util.engine.folders import run_folder

    return run_folder(config, stage)


def _is_done(stage: str, config: Config) -> bool:
    from util.engine.folders import is_finished

    return is_finished(_folder(stage, config))


def _record(stage: str, config: Config, notes: Notes) -> dict[str, Any]:
    """Return steps and minutes of a stage."""
    from util.engine.folders import METRICS
    from util.engine.resume import newest

    folder = _folder(stage, config)
    progress = newest(folder)["progress"]
    content = json.loads((folder / METRICS).read_text()) if (folder / METRICS).exists() else {"finished": False}
    return {"steps": progress["step"], "minutes": progress["minutes"], "finished": content["finished"]}
