"""Pictures of episodes: those of a test, kept while it scores them, and several methods' predictions in one figure."""

from __future__ import annotations

import contextlib
import html
from collections import ChainMap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from string import Template
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from model.tensors.ops import resize
from util.data.images.views import numbered
from util.data.lists.manifest import read_manifest, ways_of
from util.data.sampling import EpisodeKey, random_stream
from util.errors import UserError, nearest
from util.evaluate.evaluate import Scoreboard, run_pass
from util.evaluate.jobs import TestJob, build_test_jobs
from util.evaluate.metrics import iou_of
from util.evaluate.test import Test
from util.evaluate.verify import test_of
from util.files import write_atomically
from util.files.overlay import PREDICTION_COLOUR, SUPPORT_COLOUR, TRUTH_COLOUR, class_map, heat, labelled
from util.progress import ProgressBar
from util.report.figure import CHARTS, PANEL_HEIGHT, SUFFIXES, Panels, at_panel_size, draw, write_figure
from util.report.rows import row_name
from util.report.schema import BASE, FINAL, MANIFEST, find_results, read_result
from util.runtime.data import trials
from util.runtime.device import pick_device
from util.runtime.processes import ProcessGroup

KINDS = WORST, BEST, RANDOM = ("worst", "best", "random")
FIRST = "first"  # which every test shows
FOLDER, SHEET = "pictures", "index.html"
EPISODES = "episodes"  # beside every result, with the charts
PAGE = Path(__file__).with_name("contact_sheet.html")
FIGURE = """<figure data-iou="{iou:.4f}" data-class="{name}" data-kinds="{kinds}">
<figcaption><b>{iou:.1f} %</b> {name}, {query} ({kinds})</figcaption>
<a href="{file}"><img loading="lazy" alt="{name}, {query}" src="{file}"></a>
</figure>"""
Tensors = dict[str, Tensor]
Episode = tuple[int, int]  # seed, number


@dataclass(frozen=True)
class Kept:
    """One episode's predictions at the size of its scored label, and its maps at their own size."""

    ious: dict[str, float]  # of each output, in percent
    predictions: dict[str, np.ndarray]  # output -> the bytes of a PNG of (H', W') uint8: 0 and 1, or base-class ids
    maps: dict[str, np.ndarray]  # name -> (h, w) float16

    def final(self) -> Kept:
        """Return the final prediction alone."""
        return Kept(self.ious, {FINAL: self.predictions[FINAL]}, {})


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

    def add(self, seed: int, number: int, records: Tensors, predictions: Tensors, maps: Tensors) -> None:
        """Keep an episode if it is among the worst, the best or the random ones so far.

        By output are its records, and predictions as classes per pixel (1, H', W'); maps (h, w) are in 0..1.
        """
        ious = {episode: kept.ious[FINAL] for episode, kept in self._kept.items()}
        ious[seed, number] = iou_of(records[FINAL].cpu().numpy())
        wanted = {*self.chosen(ious), *self.first}
        if (seed, number) in wanted:
            self._kept[seed, number] = Kept(
                ious={name: iou_of(rows.cpu().numpy()) for name, rows in records.items()},
                predictions={name: _as_png(prediction[0]) for name, prediction in predictions.items()},
                maps={name: values.half().cpu().numpy() for name, values in maps.items()},
            )
        for episode in self._kept.keys() - wanted:
            del self._kept[episode]

    def chosen(self, ious: dict[Episode, float]) -> dict[Episode, list[str]]:
        """Return the episodes that are chosen by their IoU or by chance -> their kinds."""
        ranked = sorted(ious, key=lambda episode: (ious[episode], episode))
        out: dict[Episode, list[str]] = {}
        for kind, episodes in ((WORST, ranked), (BEST, ranked[::-1]), (RANDOM, self._random)):
            for episode in episodes[: self.wanted.get(kind, 0)]:
                out.setdefault(episode, []).append(kind)
        return out

    def gathered(self, world: ProcessGroup) -> dict[Episode, Kept]:
        """Return the kept episodes of all processes, (seed, number) -> predictions."""
        return dict(ChainMap(*world.gather(self._kept)))


def _as_png(prediction_hw: Tensor) -> np.ndarray:
    """Return the bytes of a PNG of classes per pixel."""
    _, png = cv2.imencode(".png", prediction_hw.byte().cpu().numpy())
    return png


def parse_kinds(text: str) -> dict[str, int]:
    """Return the kinds of episodes and their numbers, such as ``worst:20,best:20``; UserError for other words."""
    parts = [part.partition(":") for part in filter(None, text.split(","))]
    for kind, colon, count in parts:
        if kind not in KINDS or not count.isdecimal() or not int(count):
            hint = "" if kind in KINDS else nearest(kind, KINDS)
            raise UserError(f"--save-images {kind}{colon}{count}: write such as worst:20{hint}")
    return {kind: int(count) for kind, _, count in parts}


def remove_pictures(folder: Path) -> None:
    """Remove the pictures of an earlier test from the folder of a result."""
    figures = [folder / f"{name}.{suffix}" for name in (*CHARTS, EPISODES) for suffix in SUFFIXES]
    pictures = folder.glob(f"{FOLDER}/seed*_episode*")
    for path in (*figures, *pictures, folder / FOLDER / SHEET):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # it is not there, or holds other files
        (folder / FOLDER).rmdir()


def save_pictures(job: TestJob, kept: dict[Episode, Kept], folder: Path, title: str, suffix: str) -> None:
    """Draw the first episodes of a job together, and the chosen ones each, with a page that shows them.

    In the folder of its result they are ``episodes.png``, and ``pictures`` with an index.html.

    Args:
        job: whose predictions were kept; without that nothing is drawn.
        kept: the predictions by (seed, number).
        folder: of the result.
        title: of the result, part of each caption.
        suffix: see ``write_figure``.
    """
    if job.kept is None:
        return
    test = job.test
    if job.kept.first:
        boards = []
        for seed, number in job.kept.first:
            boards.append(episode_panels(test, test.samplers[seed](number), kept[seed, number].final()))
        write_figure(folder / EPISODES, draw(boards), suffix)
    chosen = job.kept.chosen({episode: predictions.ious[FINAL] for episode, predictions in kept.items()})
    entries = list[tuple[float, str]]()
    for (seed, number), kinds in ProgressBar(chosen.items(), desc="draw", unit="picture", leave=False):
        key = test.samplers[seed](number)
        predictions = kept[seed, number]
        iou = predictions.ious[FINAL]
        classes = _class_names(test, key)
        query = test.images.index.names[key.query]
        file = f"seed{seed}_episode{number:05d}"
        caption = f"{title}, {classes}, query {query}, seed {seed}, episode {number}"
        write_figure(folder / FOLDER / file, draw([episode_panels(test, key, predictions)], caption), suffix)
        figure = FIGURE.format(
            iou=iou,
            file=f"{file}.png",
            name=html.escape(classes),
            query=html.escape(query),
            kinds=" ".join(kinds),
        )
        entries.append((iou, figure))
    if entries:
        _write_page(folder / FOLDER / SHEET, title, [figure for _, figure in sorted(entries)])


def _class_names(test: Test, key: EpisodeKey) -> str:
    """Return the names of an episode's classes; in generalised segmentation of all that its query shows."""
    class_ids = test.images.classes_in(key.query) if test.protocol.generalised else key.classes
    return ", ".join(test.config.data.classes[class_id - 1] for class_id in class_ids)


def _write_page(path: Path, title: str, figures: Sequence[str]) -> None:
    """Write the page of some figures in HTML."""
    page = Template(PAGE.read_text(encoding="utf-8"))
    text = page.substitute(title=html.escape(title), count=len(figures), figures="\n".join(figures))
    write_atomically(path, text)


def episode_panels(test: Test, key: EpisodeKey, kept: Kept) -> Panels:
    """Return an episode's panels: supports, query, truth, maps, the base classes, and every output with its IoU."""
    drawing = EpisodeDrawing(test, key)
    masks: dict[str, Any] = {name: cv2.imdecode(png, cv2.IMREAD_UNCHANGED) for name, png in kept.predictions.items()}
    final = masks.pop(FINAL)
    base = masks.pop(BASE, None)
    panels = drawing.supports()
    panels += [("query", drawing.image), ("truth", drawing.truth())]
    for name, values in kept.maps.items():
        panels.append((f"{name} (blue 0, red 1)", drawing.heat_map(values, final.shape)))
    if base is not None:
        panels.append(drawing.base_classes(base))
    for name, mask in [*masks.items(), (FINAL, final)]:
        panels.append(drawing.output(name, mask, kept.ious[name]))
    return panels


class EpisodeDrawing:
    """Draws the images of one episode at the panels' size, with labels, predictions and maps on them."""

    def __init__(self, test: Test, key: EpisodeKey):
        self.test = test
        self.key = key
        self.names = test.config.data.classes
        self.generalised = test.protocol.generalised
        self.several = bool(key.others) or self.generalised  # classes in one label
        self.photo, self.class_ids = test.images.index.pair(key.query)
        self.image = at_panel_size(self.photo)

    def supports(self) -> Panels:
        """Return the panels of the supports, way by way; none where all episodes of a seed share them."""
        panels = Panels()
        if self.generalised:
            return panels
        index = self.test.images.index
        for value, way in enumerate(self.key.ways, 1):
            for number, row in enumerate(way.supports, 1):
                image, class_ids = map(at_panel_size, index.pair(row))
                label = numbered(class_ids, [index.value_of(way.class_id)]).numpy()
                label[label == 1] = value
                picture = labelled(image, label, SUPPORT_COLOUR, self.several)
                panels.append((f"support {number}: {self.names[way.class_id - 1]}", picture))
        return panels

    def truth(self) -> np.ndarray:
        """Return the query with its true label."""
        label = at_panel_size(self.class_ids)
        if not self.generalised:
            index = self.test.images.index
            label = numbered(label, [index.value_of(c) for c in self.key.classes]).numpy()
        return labelled(self.image, label, TRUTH_COLOUR, self.several)

    def heat_map(self, values: np.ndarray, label_shape: Sequence[int]) -> np.ndarray:
        """Return the query under a map (h, w) in 0..1 of a label of the shape (H', W')."""
        values_11hw = torch.from_numpy(values.astype(np.float32))[None, None]
        scored = resize(values_11hw, label_shape)[0, 0].numpy()
        return heat(self.image, self.on_photo(scored))

    def base_classes(self, mask: np.ndarray) -> tuple[str, np.ndarray]:
        """Return the panel of a base learner's prediction (H', W'), whose caption names the two largest classes."""
        base_ids = self.on_photo(mask)
        present, pixels = np.unique(base_ids[base_ids > 0], return_counts=True)
        largest = present[np.argsort(-pixels)[:2]].tolist()
        fold = self.test.context.fold
        names = [self.names[fold.base[base_id - 1] - 1] for base_id in largest]
        return f"base: {', '.join(names) or 'nothing'}", class_map(self.image, base_ids)

    def output(self, name: str, mask: np.ndarray, iou: float) -> tuple[str, np.ndarray]:
        """Return the panel of an output's prediction (H', W') with its IoU in percent."""
        label = self.on_photo(mask)
        caption = f"{name}, IoU {iou:.1f} %"
        if self.generalised:
            caption += "".join(f", {self.names[class_id - 1]}" for class_id in np.unique(label) if class_id)
        return caption, labelled(self.image, label, PREDICTION_COLOUR, self.several)

    def on_photo(self, scored: np.ndarray) -> np.ndarray:
        """Return a map (H', W') of the scored label's size on the panel's pixels (H, W)."""
        height, width = self.photo.shape[:2]
        full = self.test.view.back(scored, (height, width), self.test.scored_on)
        how = cv2.INTER_NEAREST if scored.dtype == np.uint8 else cv2.INTER_LINEAR
        return cv2.resize(full, (self.image.shape[1], PANEL_HEIGHT), interpolation=how)


def side_by_side(
    paths: Sequence[Path], episodes: Sequence[int], out: Path, suffix: str = "pdf", protocol: str | None = None
) -> list[Path]:
    """Predict some episodes by the networks of several results, draw them and return the files.

    Args:
        paths: results or folders with one each, of this protocol if it is named; in the order of the columns.
        episodes: numbers of episodes of the first seed, a row each.
        out: the figure's file, without its suffix.
        suffix: see ``write_figure``.

    Raises:
        UserError: no such episodes, or other ones in another result; weights or data are others than scored, or gone.
    """
    boards = [Panels() for _ in episodes]
    first: tuple[Path, list] | None = None
    for path, result in _results(paths, protocol):
        chosen = _scored_episodes(path, result, episodes)
        if first is None:
            first = path, chosen
        first_path, expected = first
        if chosen != expected:
            fix = "name results on the same episodes (test.py --manifest FILE.jsonl replays one's), or a --protocol"
            raise UserError(f"{first_path} and {path} have other episodes of these numbers; {fix}")
        for board, panels in zip(boards, _predicted_panels(path, result, episodes), strict=True):
            *shared_panels, (caption, picture) = panels
            if not board:
                board += shared_panels
            board.append((caption.replace(FINAL, row_name(result), 1), picture))
    if first is None:
        raise UserError(f"{', '.join(map(str, paths))}: no result of protocol {protocol}")
    write_figure(out, draw(boards, aligned=True), suffix)
    return [out.with_name(f"{out.name}.{ending}") for ending in dict.fromkeys(("png", suffix))]


def _results(paths: Sequence[Path], protocol: str | None) -> Iterator[tuple[Path, dict]]:
    """Yield the results below some paths, each once; only those of a protocol if it is named."""
    for path in dict.fromkeys(file for place in paths for file in find_results([place])):
        result = read_result(path)
        if protocol in (None, result["protocol"]):
            yield path, result


def _scored_episodes(path: Path, result: dict, numbers: Sequence[int]) -> list[tuple]:
    """Return query and ways of the episodes of a result's first seed with these numbers."""
    first_seed = result["seeds"][0]
    scored = [row for row in read_manifest(path.parent / MANIFEST).episodes if row.get("seed", 0) == first_seed]
    chosen = []
    for number in numbers:
        if not 0 <= number < len(scored):
            raise UserError(f"--episodes {number}: {path} has episodes 0 to {len(scored) - 1}")
        chosen.append((scored[number]["query"], ways_of(scored[number])))
    return chosen


def _predicted_panels(path: Path, result: dict, episodes: Sequence[int]) -> list[Panels]:
    """Return the panels of a result's episodes, the prediction last."""
    config = test_of(path, result).config
    config = replace(config, run=replace(config.run, device="auto"))
    world = ProcessGroup(0, 1, pick_device("auto"))
    (job,) = build_test_jobs(config, world, manifest=path.parent / MANIFEST)
    test = job.test
    if test.protocol.generalised:
        raise UserError(f"{path}: base and novel classes in one map have no figure; test.py --save-images draws them")
    if test.weights.digest != result["weights"]:
        raise UserError(f"{path}: the weights have changed since ({test.weights.source}); test again with test.py")
    seed = result["seeds"][0]
    sampler = test.samplers[seed]
    predictions = KeptPredictions({FIRST: len(episodes)}, {seed: len(episodes)})
    board = Scoreboard(
        classes=len(config.data.classes),
        keep=partial(predictions.add, seed),
        asks_presence=test.protocol.absent > 0,
        calibration=job.calibration,
    )
    data = Subset(trials(test.context, sampler, test.view, (test.scored_on,)), list(episodes))
    run_pass(job.prepared, data, len(episodes), [board], world, title=row_name(result))
    panels = []
    for number, (_, kept) in zip(episodes, sorted(predictions.gathered(world).items()), strict=True):
        panels.append(episode_panels(test, sampler(number), kept.final()))
    return panels
