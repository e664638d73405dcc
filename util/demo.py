"""The demonstration: Sym-Net+ trained and tested on a drawn data set, beside two baselines, and a prediction."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from util.config.read import read_config, to_dict
from util.config.settings import Config
from util.config.tree import override
from util.data.images.read import read_mask
from util.data.lists.index import list_of
from util.data.mini import generate
from util.errors import EXIT_INTERRUPTED
from util.evaluate.evaluate import ALL_FOREGROUND, FINAL
from util.evaluate.testing import test
from util.predict.command import command as predict
from util.report.table import Table
from util.run.folders import BEST, run_folder
from util.train.stages import train_base, train_meta

CONFIG = "config/mini/mini_demo.yaml"
BASELINE = "config/mini/mini_split0_prototype_lite0.yaml"
STAGES = ("base_stage.", "meta_stage.")  # prefixes of settings that the baseline does not have
PICTURE, PREDICTED = "demo.png", "predicted"
Result = dict[str, Any]


@dataclass(frozen=True)
class Demo:
    """The configs of the demonstration: one fold, everything under one folder."""

    folder: Path
    fold: int
    overrides: list[str]

    @property
    def data(self) -> Path:
        """The folder of the drawn data set."""
        return self.folder / "data"

    def symnet(self, name: str, *more: str) -> Config:
        """Return Sym-Net's config under a run name, with further overrides."""
        return self._config(CONFIG, name, [*self.overrides, *more])

    def baseline(self, name: str, *more: str) -> Config:
        """Return the prototype baseline's config on the same maps, under a run name, with further overrides."""
        theirs = to_dict(self.symnet(name))
        own = [
            override("data.size", theirs["data"]["size"]),
            override("model.encoder.output_stride", theirs["model"]["encoder"]["output_stride"]),
        ]
        return self._config(BASELINE, name, [*own, *(o for o in self.overrides if not o.startswith(STAGES)), *more])

    def _config(self, template: str, name: str, overrides: list[str]) -> Config:
        places = {"run.folder": self.folder, "data.root": self.data, "data.cache": self.folder / "cache"}
        own = [override(key, str(path)) for key, path in places.items()]
        return read_config(template, [*own, f"data.fold={self.fold}", *overrides, f"run.name={name}"])


def run(folder: Path, fold: int, overrides: list[str]) -> int:
    """Draw, train, test and predict; print each step; return the exit code.

    Raises:
        UserError: the folder holds other data, or an override is wrong.
    """
    demo = Demo(folder, fold, overrides)
    generate(demo.data, progress=lambda ids: tqdm(ids, desc="draw mini", unit="image"))
    config = demo.symnet("symnet")
    print("\n== base stage: the base learner, over a frozen encoder ==", flush=True)
    if train_base(config, resume=False, overwrite=True):
        return EXIT_INTERRUPTED
    print("\n== meta stage: episodes of base classes ==", flush=True)
    if train_meta(config, resume=False, overwrite=True):
        return EXIT_INTERRUPTED
    print("\n== test on the novel classes ==", flush=True)
    names = _test(demo, config)
    print("\n== one picture, as you would do it with your own ==", flush=True)
    words = _prediction(config, folder, names[0])
    print(shlex.join(["python", "predict.py", *words]), flush=True)
    predict(words)
    return 0


def _test(demo: Demo, config: Config) -> list[str]:
    """Test Sym-Net and its baselines, print the table, copy the picture; return the names of the tested classes."""
    symnet = test(config)[0]
    untrained = test(demo.symnet("untrained", "test.checkpoint=none"))[0]
    prototype = test(demo.baseline("prototype"))[0]
    rows = [
        _row("Sym-Net+", symnet),
        _row("Sym-Net+, meta output alone", symnet, "meta"),
        _row("untrained Sym-Net+", untrained),
        _row("prototype baseline", prototype),
        _row("everything foreground", symnet, ALL_FOREGROUND),
    ]
    names = [config.data.classes[int(c) - 1] for c in symnet["per_seed"][0][FINAL]["per_class"]]
    shutil.copy(next(run_folder(config, "test").rglob("episodes.png")), demo.folder / PICTURE)
    print(f"\n1-shot, {symnet['episodes']} episodes of classes never trained on: {', '.join(names)}")
    print(Table([f"mini, fold {demo.fold}", "mIoU %", "FB-IoU %"], rows))
    print(f"\npicture (support, query, prediction, truth): {demo.folder / PICTURE}")
    return names


def _row(title: str, result: Result, output: str = FINAL) -> list[str]:
    scores = result["mean"][output]
    return [title, f"{scores['miou']:.1f}", f"{scores['fb_iou']:.1f}"]


def _prediction(config: Config, folder: Path, name: str) -> list[str]:
    """Return the arguments of a prediction: a class marked in one test picture, to be found in another."""
    data = config.data
    class_id = data.classes.index(name) + 1
    root, ids = Path(data.root), (Path(data.root) / list_of(data, "test")).read_text().split()
    masks = {i: root / data.masks / f"{i}{data.mask_suffix}" for i in ids}
    showing = [i for i in ids if (read_mask(masks[i]) == class_id).any()]
    support, query = (root / data.images / f"{i}{data.image_suffix}" for i in showing[:2])
    return [
        *("--checkpoint", str(run_folder(config, "meta") / BEST)),
        *("--support", f"{support}:{masks[showing[0]]}"),
        *("--mask-value", str(class_id), "--name", name),
        *("--query", str(query), "--out", str(folder / PREDICTED), "--overwrite"),
    ]
