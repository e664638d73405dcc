"""Pictures of episodes, predicted again from results' weights: ``report.py figure RUN [RUN] --episodes worst:8``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import Tensor
from torch.utils.data import Subset

from model.episode import Output
from model.tensors.ops import resize
from model.trial import Trial
from util.data.episodes import numbered
from util.data.lists.manifest import counts_of, ways_of
from util.data.sampling import EpisodeKey
from util.evaluate.evaluation import Evaluation
from util.evaluate.schema import MANIFEST
from util.evaluate.scoring import scorings_of
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
from util.loop.device import pick_device
from util.loop.metrics import BASE, FINAL, predicted
from util.loop.processes import ProcessGroup
from util.loop.score import score, scored_outputs
from util.report.charts import Panels, draw, write_figure
from util.report.compare import SAME_EPISODES
from util.report.frame import rows_of
from util.report.manifests import episodes_by_seed
from util.report.row import Row
from util.report.verify import evaluation_of
from util.run.data import trials

WORST, BEST = "worst", "best"


def chosen(text: str, rows: Sequence[dict[str, Any]]) -> list[int]:
    """Return the numbers of episodes that a text names among those of a manifest: 3,8,12, or worst:8, or best:8.

    UserError: it is of another form, or there are no such episodes.
    """
    kind, _, count = text.partition(":")
    if kind in (WORST, BEST) and count.isdecimal():
        ranked = sorted(range(len(rows)), key=lambda number: iou_of(rows[number], FINAL))
        return ranked[: int(count)] if kind == WORST else ranked[::-1][: int(count)]
    words = text.split(",")
    numbers = [int(word) for word in words if word.strip().isdecimal()]
    if len(numbers) < len(words):
        raise UserError(f"--episodes {text}: write numbers such as 3,8,12, or worst:8, or best:8")
    if max(numbers) >= len(rows):
        raise UserError(f"--episodes {max(numbers)}: the results have episodes 0 to {len(rows) - 1}")
    return numbers


def iou_of(row: dict[str, Any], output: str) -> float:
    """Return the IoU of a manifest's episode in percent, its classes' pixels counted together."""
    counts = counts_of(row, output)
    intersection = sum(of_class for _, of_class, _ in counts)
    return 100 * intersection / max(sum(union for *_, union in counts), 1)


def draw_figure(paths: Sequence[Path], episodes: str, out: Path, protocol: str | None = None) -> list[Path]:
    """Predict some episodes by the networks of results, draw them and return the files.

    Of one result all outputs are drawn, with maps; of several the prediction of each.

    Args:
        paths: results or folders with one each, of this protocol if it is named; in the order of the columns.
        episodes: of the first seed, a row each; see ``chosen``, by the first result.
        out: the figure's file; see ``write_figure``.

    Raises:
        UserError: no such episodes, or other ones in another result; weights or data are others than scored, or gone.
    """
    protocols = [protocol] if protocol else []
    by_file = {row.file: row for place in paths for row in rows_of([place], protocols)}
    first, *others = by_file.values()
    of_first, *_ = episodes_by_seed(first)
    numbers = chosen(episodes, of_first)
    boards = _boards(first, of_first, numbers, every_output=not others)
    for other in others:
        of_other, *_ = episodes_by_seed(other)
        if any(_drawn(of_first, number) != _drawn(of_other, number) for number in numbers):
            raise UserError(
                f"{first.file} and {other.file} have different episodes under these numbers", fix=SAME_EPISODES
            )
        for board, panels in zip(boards, _boards(other, of_other, numbers), strict=True):
            board.append(panels[-1])
    return write_figure(out, draw(boards))


def _drawn(rows: Sequence[dict[str, Any]], number: int) -> tuple | None:
    """Return query and ways of an episode; None: there is none of that number."""
    return (rows[number]["query"], ways_of(rows[number])) if number < len(rows) else None


@dataclass
class Predictions:
    """The observer that keeps what a network makes of some episodes."""

    masks: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)  # by output, (H', W') uint8
    maps: dict[int, dict[str, Tensor]] = field(default_factory=dict)  # (h, w), in 0..1

    def add(self, numbers: list[int], batch: Trial, output: Output) -> None:
        """Keep the predictions at the size of the scored label, and the maps at their own size."""
        for item, number in enumerate(numbers):
            size = batch.label[item].shape
            self.maps[number] = {name: values[item].float().cpu() for name, values in output.pictures.items()}
            self.masks[number] = {}
            for name, logits in scored_outputs(output).items():
                prediction = predicted(resize(logits[item : item + 1].float(), size))
                self.masks[number][name] = prediction[0].byte().cpu().numpy()


def _boards(
    row: Row, episodes: list[dict[str, Any]], numbers: Sequence[int], every_output: bool = False
) -> list[Panels]:
    """Return the panels of some of the ``episodes`` of a result's first seed; the prediction last."""
    config = evaluation_of(row, ["run.device=auto"]).config
    world = ProcessGroup(0, 1, pick_device("auto"))
    (test,) = scorings_of(config, world, manifest=row.file.with_name(MANIFEST))
    if test.loaded.digest != row.result["weights"]:
        raise UserError(
            f"{row.file}: the weights have changed since ({test.loaded.source})",
            fix="test again with test.py",
        )
    sampler = test.samplers[row.result["seeds"][0]]
    found = Predictions()
    data = Subset(trials(test.run, sampler, test.view, test.scored_on), list(numbers))
    score(test.prepared, data, len(numbers), [found], world, title=row.name)
    boards = []
    for place, number in enumerate(numbers):
        drawing = EpisodeDrawing(test, sampler(number))
        panels = [*drawing.supports(), ("query", drawing.image), ("truth", drawing.truth())]
        masks = found.masks[place]
        final = masks.pop(FINAL)
        if every_output:
            for name, values in found.maps[place].items():
                panels.append((f"{name} (blue 0, red 1)", drawing.heat_map(values, final.shape)))
            if (base := masks.pop(BASE, None)) is not None:
                panels.append(drawing.base_classes(base))
            panels += [drawing.output(name, mask, iou_of(episodes[number], name)) for name, mask in masks.items()]
        boards.append([*panels, drawing.output(row.name, final, iou_of(episodes[number], FINAL))])
    return boards


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
        values = [self.test.images.index.value_of(class_id) for class_id in self.key.classes]
        label = numbered(at_panel_size(self.class_ids), values).numpy()
        return labelled(self.image, label, TRUTH_COLOUR, self.several)

    def heat_map(self, values_hw: Tensor, label_shape: Sequence[int]) -> np.ndarray:
        """Return the query under a map (h, w) in 0..1 of a label of the shape (H', W')."""
        scored = resize(values_hw.clamp(0, 1)[None, None], label_shape)[0, 0].numpy()
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
