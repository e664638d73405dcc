"""The batches of the published training steps: drawn images, labels in {0, 1, 255} and channels of base classes."""

import zlib

import numpy as np

from tests.parity.drawn.drawn import episode

BASE_CLASSES = tuple(range(6, 21))  # of fold 0 of PASCAL-5i, in the order of the base learner's channels
STEPS = 2
BATCH = {"meta": 2, "base": 4}
IGNORED_ROWS = 3  # at the bottom of each label
Arrays = dict[str, np.ndarray]


def batches(stage: str, side: int) -> list[Arrays]:
    """Return the batches of a stage, images (..., 3, S, S)."""
    draw = _images if stage == "base" else _episodes
    return [draw(step, side) for step in range(STEPS)]


def check_sums(drawn: list[Arrays]) -> list[int]:
    """Return the CRC-32 of every array."""
    arrays = [batch[name] for batch in drawn for name in sorted(batch)]
    return [zlib.crc32(np.ascontiguousarray(array).tobytes()) for array in arrays]


def _episodes(step: int, side: int) -> Arrays:
    """Return a batch of the meta stage, a dictionary of arrays with the names of ``Episode``."""
    size = BATCH["meta"]
    rows = [episode(10 + step * size + i, 1, side) for i in range(size)]
    keys = ("query", "query_label", "support", "support_label")
    batch = {key: np.concatenate([row[key] for row in rows]) for key in keys}
    batch["query_label"][:, -IGNORED_ROWS:] = 255
    numbers = [(5 * step + 3 * i) % len(BASE_CLASSES) for i in range(size)]
    batch["class_id"] = np.array([BASE_CLASSES[number] for number in numbers])
    label = np.zeros_like(batch["query_label"])
    for i, number in enumerate(numbers):
        label[i, : side // 3, : side // 4] = 1 + (step + 7 * i) % len(BASE_CLASSES)  # a thing of a base class
        label[i][batch["query_label"][i] == 1] = 1 + number
    label[batch["query_label"] == 255] = 255
    return {**batch, "query_base_label": label}


def _images(step: int, side: int) -> Arrays:
    """Return a batch of the base stage, a dictionary of arrays with the names of ``LabelledImages``."""
    size = BATCH["base"]
    rows = [episode(40 + step * size + i, 1, side) for i in range(size)]
    label = np.concatenate([row["query_label"] for row in rows])
    for i in range(size):
        label[i] *= 1 + (4 * step + 3 * i) % len(BASE_CLASSES)
    label[:, -IGNORED_ROWS:] = 255
    return {"image": np.concatenate([row["query"] for row in rows]), "label": label}
