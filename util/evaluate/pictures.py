"""Pictures of episodes: those of a test, kept while it scores them, and several methods' predictions in one figure."""

from __future__ import annotations

import contextlib
import html
from collections import ChainMap
from collections.abc import Sequence
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

from model.common.ops import resize
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
from util.progress import ProgressBar
from util.report.figure import CHARTS, PANEL_HEIGHT, SUFFIXES, Panels, at_panel_size, draw, write_figure
from util.report.overlay import PREDICTION_COLOUR, SUPPORT_COLOUR, TRUTH_COLOUR, class_map, heat, labelled
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
            each = {name: iou_of(rows.cpu().numpy()) for name, rows in records.items()}
            masks = {name: cv2.imencode(".png", p[0].byte().cpu().numpy())[1] for name, p in predictions.items()}
            self._kept[seed, number] = Kept(each, masks, {name: m.half().cpu().numpy() for name, m in maps.items()})
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
    names = [f"{name}.{suffix}" for name in (*CHARTS, EPISODES) for suffix in SUFFIXES]
    for path in (*(folder / name for name in names), *folder.glob(f"{FOLDER}/seed*_episode*"), folder / FOLDER / SHEET):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # it is not there, or holds other files
        (folder / FOLDER).rmdir()


def save_pictures(job: TestJob, kept: dict[Episode, Kept], folder: Path, title: str, suffix: str) -> None:
    """Draw the first episodes of a job together, and the chosen ones each, with a page that shows them.

    In the folder of its result they are ``episodes.png``, and ``pictures`` with an index.html; ``kept`` has their
    predictions by (seed, number).
    """
    if job.kept is None:
        return
    test, entries = job.test, list[tuple[float, str]]()
    names = test.config.data.classes
    if first := job.kept.first:
        boards = [episode_panels(test, test.samplers[s](n), kept[s, n].final()) for s, n in first]
        write_figure(folder / EPISODES, draw(boards), suffix)
    chosen = job.kept.chosen({episode: found.ious[FINAL] for episode, found in kept.items()})
    for (seed, number), kinds in ProgressBar(chosen.items(), desc="draw", unit="picture", leave=False):
        key, found = test.samplers[seed](number), kept[seed, number]
        classes = test.images.classes_in(key.query) if test.protocol.generalised else key.classes
        name, query = ", ".join(names[c - 1] for c in classes), test.images.index.names[key.query]
        file, iou = f"seed{seed}_episode{number:05d}", found.ious[FINAL]
        caption = f"{title}, {name}, query {query}, seed {seed}, episode {number}"
        write_figure(folder / FOLDER / file, draw([episode_panels(test, key, found)], caption), suffix)
        shown = {"name": html.escape(name), "query": html.escape(query), "kinds": " ".join(kinds)}
        entries.append((iou, FIGURE.format(iou=iou, file=f"{file}.png", **shown)))
    if entries:
        figures = "\n".join(figure for _, figure in sorted(entries))
        page = Template(PAGE.read_text(encoding="utf-8"))
        text = page.substitute(title=html.escape(title), count=len(entries), figures=figures)
        write_atomically(folder / FOLDER / SHEET, text)


def episode_panels(test: Test, key: EpisodeKey, kept: Kept) -> Panels:
    """Return an episode's panels: supports, query, truth, maps, the base classes, and every output with its IoU."""
    index, names, panels = test.images.index, test.config.data.classes, Panels()
    whole = test.protocol.generalised
    several = bool(key.others) or whole
    for value, way in enumerate(() if whole else key.ways, 1):
        for support, row in enumerate(way.supports, 1):
            image, classes = map(at_panel_size, index.pair(row))
            label = numbered(classes, [index.value_of(way.class_id)]).numpy()
            label[label == 1] = value
            drawn = labelled(image, label, SUPPORT_COLOUR, several)
            panels.append((f"support {support}: {names[way.class_id - 1]}", drawn))
    photo, ids = index.pair(key.query)
    image, classes = at_panel_size(photo), at_panel_size(ids)
    truth = classes if whole else numbered(classes, [index.value_of(c) for c in key.classes]).numpy()
    panels += [("query", image), ("truth", labelled(image, truth, TRUTH_COLOUR, several))]

    def on_photo(scored: np.ndarray) -> np.ndarray:
        """Return a map (H', W') of the scored label's size on the panel's pixels (H, W)."""
        full = test.view.back(scored, (photo.shape[0], photo.shape[1]), test.scored_on)
        how = cv2.INTER_NEAREST if scored.dtype == np.uint8 else cv2.INTER_LINEAR
        return cv2.resize(full, (image.shape[1], PANEL_HEIGHT), interpolation=how)

    masks: dict[str, Any] = {name: cv2.imdecode(png, cv2.IMREAD_UNCHANGED) for name, png in kept.predictions.items()}
    masks[FINAL] = masks.pop(FINAL)  # drawn last
    for name, values in kept.maps.items():
        shown = resize(torch.from_numpy(values.astype(np.float32))[None, None], masks[FINAL].shape)[0, 0].numpy()
        panels.append((f"{name} (blue 0, red 1)", heat(image, on_photo(shown))))
    if BASE in masks:
        ids = on_photo(masks.pop(BASE))
        found, counts = np.unique(ids[ids > 0], return_counts=True)
        largest = [names[test.context.fold.base[i - 1] - 1] for i in found[np.argsort(-counts)[:2]].tolist()]
        panels.append((f"base: {', '.join(largest) or 'nothing'}", class_map(image, ids)))
    for name, mask in masks.items():
        ids, text = on_photo(mask), f"{name}, IoU {kept.ious[name]:.1f} %"
        text += "".join(f", {names[c - 1]}" for c in np.unique(ids) if c) if whole else ""
        panels.append((text, labelled(image, ids, PREDICTION_COLOUR, several)))
    return panels


def side_by_side(
    paths: Sequence[Path], episodes: Sequence[int], out: Path, suffix: str = "pdf", protocol: str | None = None
) -> list[Path]:
    """Predict some episodes by the networks of several results, draw them and return the files.

    Args:
        paths: results or folders with one each, of this protocol if it is named; in the order of the columns.
        episodes: numbers of episodes of the first seed, a row each.
        out: the figure's file, without its suffix.
        suffix: see ``write_figure``.

    UserError: no such episodes, or other ones in another result; weights or data are others than scored, or gone.
    """
    boards: list[Panels] = [[] for _ in episodes]
    first: tuple[Path, list] | None = None
    for path in dict.fromkeys(file for place in paths for file in find_results([place])):
        result = read_result(path)
        if protocol not in (None, result["protocol"]):
            continue
        scored = [e for e in read_manifest(path.parent / MANIFEST).episodes if e.get("seed", 0) == result["seeds"][0]]
        if wrong := [number for number in episodes if not 0 <= number < len(scored)]:
            raise UserError(f"--episodes {wrong[0]}: {path} has episodes 0 to {len(scored) - 1}")
        chosen = [(scored[number]["query"], ways_of(scored[number])) for number in episodes]
        first = first or (path, chosen)
        if chosen != first[1]:
            fix = "name results on the same episodes (test.py --manifest FILE.jsonl replays one's), or a --protocol"
            raise UserError(f"{first[0]} and {path} have other episodes of these numbers; {fix}")
        for board, panels in zip(boards, _predicted_panels(path, result, episodes), strict=True):
            caption, picture = panels[-1]
            board += [] if board else panels[:-1]
            board.append((caption.replace(FINAL, row_name(result), 1), picture))
    if first is None:
        raise UserError(f"{', '.join(map(str, paths))}: no result of protocol {protocol}")
    write_figure(out, draw(boards, aligned=True), suffix)
    return [out.with_name(f"{out.name}.{ending}") for ending in dict.fromkeys(("png", suffix))]


def _predicted_panels(path: Path, result: dict, episodes: Sequence[int]) -> list[Panels]:
    """Return the panels of a result's episodes, the prediction last."""
    config = test_of(path, result).config
    config = replace(config, run=replace(config.run, device="auto"))
    world, seed = ProcessGroup(0, 1, pick_device("auto")), result["seeds"][0]
    (job,) = build_test_jobs(config, world, manifest=path.parent / MANIFEST)
    test = job.test
    if test.protocol.generalised:
        raise UserError(f"{path}: base and novel classes in one map have no figure; test.py --save-images draws them")
    if test.weights.digest != result["weights"]:
        raise UserError(f"{path}: the weights have changed since ({test.weights.source}); test again with test.py")
    seen, sampler = KeptPredictions({FIRST: len(episodes)}, {seed: len(episodes)}), test.samplers[seed]
    absent = test.protocol.absent > 0
    board = Scoreboard(len(config.data.classes), None, None, partial(seen.add, seed), absent, job.calibration)
    data = Subset(trials(test.context, sampler, test.view, (test.scored_on,)), list(episodes))
    run_pass(job.prepared, data, len(episodes), [board], world, row_name(result))
    found = [kept.final() for _, kept in sorted(seen.gathered(world).items())]
    return [episode_panels(test, sampler(n), kept) for n, kept in zip(episodes, found, strict=True)]
