"""The batches of the published training steps: drawn images, labels in {0, 1, 255} and channels of base classes."""

import numpy as np

from tests.parity.drawn.cases import joined

BASE_CLASSES = np.arange(6, 21)  # of fold 0 of PASCAL-5i, in the order of the base learner's channels
STEPS = 2
BATCH = {"meta": 2, "base": 4}
IGNORED_ROWS = 3  # at the bottom of each label
Arrays = dict[str, np.ndarray]


def batches(stage: str, side: int) -> list[Arrays]:
    """Return the batches of a stage, images (..., 3, S, S)."""
    draw = _images if stage == "base" else _episodes
    return [draw(step, side) for step in range(STEPS)]


def _episodes(step: int, side: int) -> Arrays:
    """Return a batch of the meta stage, a dictionary of arrays with the names of ``Episode``."""
    first = 10 + step * BATCH["meta"]
    batch = joined(range(first, first + BATCH["meta"]), 1, side)
    query_label = batch["query_label"]
    query_label[:, -IGNORED_ROWS:] = 255
    of_batch = np.arange(BATCH["meta"])
    channels = (5 * step + 3 * of_batch) % len(BASE_CLASSES)
    things = (step + 7 * of_batch) % len(BASE_CLASSES)  # of a base class each
    batch["class_id"] = BASE_CLASSES[channels]
    label = np.zeros_like(query_label)
    label[:, : side // 3, : side // 4] = 1 + things[:, None, None]
    of_object = np.where(query_label == 1, 1 + channels[:, None, None], label)
    batch["query_base_label"] = np.where(query_label == 255, 255, of_object).astype(np.uint8)
    return batch


def _images(step: int, side: int) -> Arrays:
    """Return a batch of the base stage, a dictionary of arrays with the names of ``LabelledImages``."""
    first = 40 + step * BATCH["base"]
    batch = joined(range(first, first + BATCH["base"]), 1, side)
    channels = (4 * step + 3 * np.arange(BATCH["base"])) % len(BASE_CLASSES)
    label = batch["query_label"] * (1 + channels[:, None, None]).astype(np.uint8)
    label[:, -IGNORED_ROWS:] = 255
    return {"image": batch["query"], "label": label}
