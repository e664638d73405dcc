"""Pictures of episodes: of those whose predictions a test kept, and several methods' predictions in one figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Subset

from model.tensors.ops import resize
from util.data.episodes import numbered
from util.data.lists.manifest import read_manifest, ways_of
from util.data.sampling import EpisodeKey
from util.evaluate.evaluation import Evaluation
from util.evaluate.kept import FIRST, Episode, Kept, KeptPredictions, read_predictions
from util.evaluate.schema import MANIFEST, PAGE, PICTURES, PREDICTIONS, find_results, read_result
from util.evaluate.scoring import scorings_of
from util.evaluate.titles import title
from util.files import write_atomically
from util.files.errors import UserError
from util.files.overlay import (
    PANEL_HEIGHT,
    PREDICTION_COLOUR,
    SUPPORT_COLOUR,
    TRUTH_COLOUR,
    at_panel_size,
    class_map,
    heat,
    labelled,
)
from util.files.pages import Html, html_of
from util.files.progress import ProgressBar
from util.loop.device import pick_device
from util.loop.metrics import BASE, FINAL
from util.loop.processes import ProcessGroup
from util.loop.score import Scoreboard, score
from util.report.compare import SAME_EPISODES
from util.report.figure import Panels, draw, write_figure
from util.report.rows import row_name
from util.report.verify import evaluation_of
from util.run.data import trials

EPISODES = "episodes"  # the first ones, beside the charts
TEMPLATE = Path(__file__).with_name("contact_sheet.html")
FIGURE = """<figure data-iou="$iou" data-class="$name" data-kinds="$kinds">
<figcaption><b>$percent %</b> $name, $query ($kinds)</figcaption>
<a href="$file"><img loading="lazy" alt="$name, $query" src="$file"></a>
</figure>"""


def draw_episodes(path: Path, suffix: str) -> list[Path]:
    """Draw the episodes whose predictions the test of a result kept, and return the files.

    The first are together in ``episodes.png`` beside the result; the others have one each in ``pictures``, with an
    index.html that shows them.

    Args:
        path: of the result.
        suffix: see ``write_figure``.

    Raises:
        UserError: the photos are not there, or are not those of the episodes, or a kept one is not in the result.
    """
    file = path.with_name(PREDICTIONS)
    if not file.exists():
        return []
    kept = read_predictions(file)
    scored = ScoredEpisodes.of(path)
    for predictions in kept:
        if predictions.episode not in scored.rows:
            seed, number = predictions.episode
            of_result = f"seed {seed}, episode {number} is not in {MANIFEST} beside it"
            raise UserError(f"{file}: {of_result}; score the run again with test.py")
    files = list[Path]()
    first = [predictions for predictions in kept if FIRST in predictions.kinds]
    if first:
        boards = [scored.panels(predictions.episode, predictions.final) for predictions in first]
        files += write_figure(path.with_name(EPISODES), draw(boards), suffix)
    others = [predictions for predictions in kept if predictions.kinds != [FIRST]]
    if others:
        files.append(_draw_sheet(path.with_name(PICTURES), scored, others, suffix))
    return files


def _draw_sheet(folder: Path, scored: ScoredEpisodes, episodes: Sequence[Kept], suffix: str) -> Path:
    """Draw kept episodes of a result, a figure each, and write the page that shows them; return the page."""
    entries = list[tuple[float, Html]]()
    for kept in ProgressBar(episodes, desc="draw", unit="picture", leave=False):
        seed, number = kept.episode
        query = scored.rows[kept.episode]["query"]
        classes = scored.class_names(kept.episode)
        caption = f"{scored.title}, {classes}, query {query}, seed {seed}, episode {number}"
        file, *_ = write_figure(folder / kept.name, draw([scored.panels(kept.episode, kept)], caption), suffix)
        iou = scored.ious(kept.episode)[FINAL]
        figure = html_of(
            FIGURE,
            iou=f"{iou:.4f}",
            percent=f"{iou:.1f}",
            file=file.name,
            name=classes,
            query=query,
            kinds=" ".join(kind for kind in kept.kinds if kind != FIRST),
        )
        entries.append((iou, figure))
    page = folder / PAGE
    figures = Html("\n".join(figure for _, figure in sorted(entries)))
    template = TEMPLATE.read_text(encoding="utf-8")
    write_atomically(page, html_of(template, title=scored.title, count=len(entries), figures=figures))
    return page


@dataclass(frozen=True)
class ScoredEpisodes:
    """The episodes of a result: their images, and what was scored of them."""

    title: str  # of the result
    test: Evaluation  # that replays them
    rows: dict[Episode, dict[str, Any]]  # of the manifest

    @classmethod
    def of(cls, path: Path) -> ScoredEpisodes:
        """Return the episodes of a result's file; UserError: its data set is not there, or is another."""
        result = read_result(path)
        manifest = path.with_name(MANIFEST)
        rows = {(row["seed"], row["number"]): row for row in read_manifest(manifest).episodes}
        return cls(title(result), replace(evaluation_of(path, result), replayed=manifest), rows)

    def key(self, episode: Episode) -> EpisodeKey:
        """Return an episode by the rows of its images."""
        seed, number = episode
        return self.test.samplers[seed](number)

    def class_names(self, episode: Episode) -> str:
        """Return the names of an episode's classes."""
        key = self.key(episode)
        return ", ".join(self.test.config.data.classes[class_id - 1] for class_id in key.classes)

    def ious(self, episode: Episode) -> dict[str, float]:
        """Return the IoU of each output of an episode in percent, its classes' pixels counted together."""
        row = self.rows[episode]
        ious = {}
        for output, counts in row["outputs"].items():
            of_classes = counts[: 2 * len(ways_of(row))]
            intersection, union = np.reshape(of_classes, (-1, 2)).sum(0).tolist()
            ious[output] = 100 * intersection / max(union, 1)
        return ious

    def panels(self, episode: Episode, kept: Kept) -> Panels:
        """Return an episode's panels: supports, query, truth, maps, base classes, and every output with its IoU."""
        drawing = EpisodeDrawing(self.test, self.key(episode))
        ious = self.ious(episode)
        masks = kept.predictions
        final = masks.pop(FINAL)
        base = masks.pop(BASE, None)
        panels = drawing.supports()
        panels += [("query", drawing.image), ("truth", drawing.truth())]
        for name, values in kept.maps.items():
            panels.append((f"{name} (blue 0, red 1)", drawing.heat_map(values, final.shape)))
        if base is not None:
            panels.append(drawing.base_classes(base))
        for name, mask in [*masks.items(), (FINAL, final)]:
            panels.append(drawing.output(name, mask, ious[name]))
        return panels


class EpisodeDrawing:
    """Draws the images of one episode at the panels' size, with labels, predictions and maps on them."""

    def __init__(self, test: Evaluation, key: EpisodeKey):
        self.test = test
        self.key = key
        self.names = test.config.data.classes
        self.several = bool(key.others)  # classes in one label
        self.photo, self.class_ids = test.images.index.pair(key.query)
        self.image = at_panel_size(self.photo)

    def supports(self) -> Panels:
        """Return the panels of the supports, way by way."""
        panels = Panels()
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
        index = self.test.images.index
        values = [index.value_of(class_id) for class_id in self.key.classes]
        label = numbered(at_panel_size(self.class_ids), values).numpy()
        return labelled(self.image, label, TRUTH_COLOUR, self.several)

    def heat_map(self, values: np.ndarray, label_shape: Sequence[int]) -> np.ndarray:
        """Return the query under a map (h, w) in 0..1 of a label of the shape (H', W')."""
        values_11hw = torch.from_numpy(values)[None, None]
        scored = resize(values_11hw, label_shape)[0, 0].numpy()
        return heat(self.image, self.on_photo(scored))

    def base_classes(self, mask: np.ndarray) -> tuple[str, np.ndarray]:
        """Return the panel of a base learner's prediction (H', W'), whose caption names the two largest classes."""
        base_ids = self.on_photo(mask)
        present, pixels = np.unique(base_ids[base_ids > 0], return_counts=True)
        largest = np.argsort(-pixels)[:2]
        base = self.test.run.fold.base
        names = [self.names[base[base_id - 1] - 1] for base_id in present[largest].tolist()]
        return f"base: {', '.join(names) or 'nothing'}", class_map(self.image, base_ids)

    def output(self, name: str, mask: np.ndarray, iou: float) -> tuple[str, np.ndarray]:
        """Return the panel of an output's prediction (H', W') with its IoU in percent."""
        label = self.on_photo(mask)
        return f"{name}, IoU {iou:.1f} %", labelled(self.image, label, PREDICTION_COLOUR, self.several)

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
        scored = _scored_episodes(path, result, episodes)
        if first is None:
            first = path, scored
        first_path, expected = first
        if scored != expected:
            problem = f"{first_path} and {path} have different episodes under these numbers"
            raise UserError(f"{problem}; {SAME_EPISODES}; or name a --protocol")
        for board, panels in zip(boards, _predicted_panels(path, result, episodes), strict=True):
            *shared_panels, (caption, picture) = panels
            if not board:
                board += shared_panels
            board.append((caption.replace(FINAL, row_name(result), 1), picture))
    if first is None:
        raise UserError(f"{', '.join(map(str, paths))}: no result of protocol {protocol}")
    return write_figure(out, draw(boards, aligned=True), suffix)


def _results(paths: Sequence[Path], protocol: str | None) -> Iterator[tuple[Path, dict]]:
    """Yield the results below some paths, each once; only those of a protocol if it is named."""
    for path in dict.fromkeys(file for place in paths for file in find_results([place])):
        result = read_result(path)
        if protocol in (None, result["protocol"]):
            yield path, result


def _scored_episodes(path: Path, result: dict, numbers: Sequence[int]) -> list[tuple]:
    """Return query and ways of the episodes of a result's first seed with these numbers."""
    first_seed = result["seeds"][0]
    scored = [row for row in read_manifest(path.parent / MANIFEST).episodes if row["seed"] == first_seed]
    selected = []
    for number in numbers:
        if not 0 <= number < len(scored):
            raise UserError(f"--episodes {number}: {path} has episodes 0 to {len(scored) - 1}")
        selected.append((scored[number]["query"], ways_of(scored[number])))
    return selected


def _predicted_panels(path: Path, result: dict, episodes: Sequence[int]) -> list[Panels]:
    """Return the panels of a result's episodes, the prediction last."""
    config = evaluation_of(path, result).config
    config = replace(config, run=replace(config.run, device="auto"))
    world = ProcessGroup(0, 1, pick_device("auto"))
    (scoring,) = scorings_of(config, world, manifest=path.parent / MANIFEST)
    test = scoring.evaluation
    if test.loaded.weights.digest != result["weights"]:
        raise UserError(
            f"{path}: the weights have changed since ({test.loaded.weights.source}); test again with test.py"
        )
    seed = result["seeds"][0]
    predictions = KeptPredictions({FIRST: len(episodes)}, {seed: len(episodes)})
    board = Scoreboard(
        classes=len(config.data.classes),
        keep=partial(predictions.add, seed),
    )
    data = Subset(trials(test.run, test.samplers[seed], test.view, (test.scored_on,)), list(episodes))
    score(scoring.prepared, data, len(episodes), [board], world, title=row_name(result))
    scored = replace(ScoredEpisodes.of(path), test=test)
    kept = [predictions.final for _, predictions in sorted(predictions.gather(world).items())]
    return [scored.panels((seed, number), final) for number, final in zip(episodes, kept, strict=True)]
