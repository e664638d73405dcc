"""The predictions that a test keeps for pictures: of its first episodes, and of the worst, best and random ones.

They are PNGs in ``predictions.zip`` beside the result, a folder for each episode: ``final.png`` and those of other
outputs hold classes per pixel, ``maps/prior.png`` and the like a map in 0..1 as 0..65535. ``episodes.json`` lists the
episodes and why each was kept.
"""

from __future__ import annotations

import json
import zipfile
from collections import ChainMap
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Literal, TypedDict

import cv2
import numpy as np
from PIL import Image
from torch import Tensor

from util.data.sampling import random_stream
from util.files import write_atomically
from util.files.errors import UserError, nearest
from util.files.images import check_image, read_errors
from util.files.typecheck import convert
from util.loop.metrics import FINAL, iou_of
from util.loop.processes import ProcessGroup

KINDS = WORST, BEST, RANDOM = ("worst", "best", "random")
FIRST, FIRST_EPISODES = "first", 8  # a kind of every test, and how many there are
INDEX = "episodes.json"
FINAL_FILE = f"{FINAL}.png"
MAPS = "maps"
MOST = 65535  # of a pixel in the PNG of a map
Tensors = dict[str, Tensor]
Episode = tuple[int, int]  # seed, number


@dataclass(frozen=True)
class Kept:
    """One episode's predictions at the size of its scored label, and its maps at their own size, as PNGs."""

    episode: Episode
    files: dict[str, bytes]  # by name, such as final.png and maps/prior.png
    kinds: list[str] = field(default_factory=list)  # why it is kept

    @property
    def name(self) -> str:
        """The name of its folder in the file of predictions, and of its picture."""
        seed, number = self.episode
        return f"seed{seed}_episode{number:05d}"

    @property
    def final(self) -> Kept:
        """The final prediction alone."""
        return replace(self, files={FINAL_FILE: self.files[FINAL_FILE]})

    @property
    def predictions(self) -> dict[str, np.ndarray]:
        """The predictions by output, (H', W') uint8: 0 and the episode's classes, or base-class ids."""
        return {Path(name).stem: _pixels(png) for name, png in self.files.items() if not name.startswith(MAPS)}

    @property
    def maps(self) -> dict[str, np.ndarray]:
        """The maps by name, (h, w) float32 in 0..1."""
        pngs = {name: png for name, png in self.files.items() if name.startswith(MAPS)}
        return {Path(name).stem: _pixels(png).astype(np.float32) / MOST for name, png in pngs.items()}


def _files(predictions: Tensors, maps: Tensors) -> dict[str, bytes]:
    """Return the PNGs of predictions (1, H', W') and of maps (h, w)."""
    files = {}
    for name, prediction in predictions.items():
        files[f"{name}.png"] = _png(prediction[0].byte().cpu().numpy())
    for name, values in maps.items():
        levels = (values.float().clamp(0, 1) * MOST).round().cpu().numpy()
        files[f"{MAPS}/{name}.png"] = _png(levels.astype(np.uint16))
    return files


def parse_kinds(text: str) -> dict[str, int]:
    """Return the kinds of episodes and their numbers, such as ``worst:20,best:20``; UserError for other words."""
    parts = [part.partition(":") for part in filter(None, text.split(","))]
    for kind, colon, count in parts:
        if kind not in KINDS or not count.isdecimal() or not int(count):
            hint = "" if kind in KINDS else nearest(kind, KINDS)
            raise UserError(f"--save-images {kind}{colon}{count}: write a kind and a number, such as worst:20{hint}")
    return {kind: int(count) for kind, _, count in parts}


class KeptPredictions:
    """Keeps the predictions of the episodes that a choice may fall on, in bounded memory.

    ``wanted`` is kind (first, worst, best, random) -> number of episodes; ``episodes`` seed -> number of scored ones.
    """

    def __init__(self, wanted: dict[str, int], episodes: dict[int, int]):
        self.wanted = wanted
        every = [(seed, number) for seed, length in episodes.items() for number in range(length)]
        self.first = every[: wanted.get(FIRST, 0)]
        # a stream beside those of util/data/sampling.py, which always draws the same ones
        drawn = random_stream(0, 3).permutation(len(every))[: wanted.get(RANDOM, 0)]
        self._random = [every[i] for i in drawn.tolist()]
        self._kept: dict[Episode, Kept] = {}
        self._ious: dict[Episode, float] = {}  # of their final predictions, in percent

    def add(self, seed: int, number: int, records: Tensors, predictions: Tensors, maps: Tensors) -> None:
        """Keep an episode if it is among the worst, the best or the random ones so far.

        By output are its records, and predictions as classes per pixel (1, H', W'); maps (h, w) are in 0..1.
        """
        episode = seed, number
        iou = iou_of(records[FINAL].cpu().numpy())
        wanted = self.kinds({**self._ious, episode: iou})
        if episode in wanted:
            self._kept[episode] = Kept(episode, _files(predictions, maps))
            self._ious[episode] = iou
        for other in self._kept.keys() - wanted.keys():
            del self._kept[other], self._ious[other]

    def kinds(self, ious: dict[Episode, float]) -> dict[Episode, list[str]]:
        """Return the episodes that are wanted, by their place, their IoU or by chance -> their kinds."""
        ranked = sorted(ious, key=lambda episode: (ious[episode], episode))
        episodes_by_kind = {FIRST: self.first, WORST: ranked, BEST: ranked[::-1], RANDOM: self._random}
        kinds: dict[Episode, list[str]] = {}
        for kind, episodes in episodes_by_kind.items():
            for episode in episodes[: self.wanted.get(kind, 0)]:
                kinds.setdefault(episode, []).append(kind)
        return kinds

    def gather(self, world: ProcessGroup) -> dict[Episode, Kept]:
        """Return the kept episodes of all processes, of which this one then has all, (seed, number) -> predictions."""
        kept, ious = zip(*world.gather((self._kept, self._ious)))
        self._kept = dict(ChainMap(*kept))
        self._ious = dict(ChainMap(*ious))
        return self._kept

    def write(self, path: Path) -> None:
        """Write the kept episodes of all processes, the final prediction alone of those that are but the first."""
        kept = []
        for episode, kinds in self.kinds(self._ious).items():
            predictions = replace(self._kept[episode], kinds=kinds)
            kept.append(predictions.final if kinds == [FIRST] else predictions)
        write_atomically(path, partial(_write, kept=kept))


def _write(path: Path, kept: list[Kept]) -> None:
    """Write kept episodes; the bytes of the file follow from them alone."""
    with zipfile.ZipFile(path, "w") as file:
        rows = [{"episode": predictions.episode, "kinds": predictions.kinds} for predictions in kept]
        file.writestr(zipfile.ZipInfo(INDEX), json.dumps(rows))
        for predictions in kept:
            for name, png in predictions.files.items():
                file.writestr(zipfile.ZipInfo(f"{predictions.name}/{name}"), png)


class IndexRow(TypedDict):
    """An entry of ``INDEX``."""

    episode: list[int]  # seed, number
    kinds: list[Literal["first", "worst", "best", "random"]]


def read_predictions(path: Path) -> list[Kept]:
    """Return the kept episodes of a file; UserError: it is damaged."""
    pngs: dict[str, dict[str, bytes]] = {}  # by folder and name in it
    try:
        with zipfile.ZipFile(path) as file:
            if sum(entry.file_size for entry in file.infolist()) > path.stat().st_size:
                raise ValueError("its files are compressed, which this program's are not")
            rows = convert(list[IndexRow], json.loads(file.read(INDEX)), INDEX)
            for name in file.namelist():
                folder, _, place = name.partition("/")
                pngs.setdefault(folder, {})[place] = file.read(name)
            episodes = [(seed, number) for seed, number in (row["episode"] for row in rows)]
    except Exception as error:  # a damaged archive can raise any exception
        raise UserError(f"{path}: cannot read these predictions ({error}); score the run again with test.py") from None
    kept = []
    for episode, row in zip(episodes, rows, strict=True):
        empty = Kept(episode, {}, [*row["kinds"]])
        files = pngs.get(empty.name, {})
        if FINAL_FILE not in files:
            raise UserError(f"{path}: {empty.name}/{FINAL_FILE} is missing; score the run again with test.py")
        kept.append(replace(empty, files=files))
    return kept


def _png(values: np.ndarray) -> bytes:
    """Return the bytes of a PNG of values (H, W) uint8 or uint16."""
    _, png = cv2.imencode(".png", values)
    return png.tobytes()


def _pixels(png: bytes) -> np.ndarray:
    """Return the values of a PNG (H, W); UserError: it is none, or too large."""
    name = Path("a kept prediction")
    with read_errors(name), Image.open(BytesIO(png), formats=("PNG",)) as image:
        check_image(image, name)
        pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None or pixels.ndim != 2:
            raise ValueError("holds no numbers (H, W)")
    return np.asarray(pixels)
