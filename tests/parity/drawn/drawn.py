"""Episodes of drawn images for parity tests, in integers of raw PCG64 bits alone: equal on every machine."""

import numpy as np

AROUND = np.array([[64, 0], [45, 45], [0, 64], [-45, 45], [-64, 0], [-45, -45], [0, -64], [45, -45]])  # 64 (cos, sin)


class _Dice:
    def __init__(self, *seed: int) -> None:
        self.bits = np.random.PCG64(list(seed))

    def ints(self, low: int, high: int, *shape: int) -> np.ndarray:
        """Integers of low <= x < high."""
        raw = self.bits.random_raw(int(np.prod(shape, dtype=int))).reshape(shape)
        return low + (raw % np.uint64(high - low)).astype(np.int64)


def _inside(kind: int, dice: _Dice, side: int, number: int) -> np.ndarray:
    """Mask (S, S) of an ellipse, a star or a striped disc; ``number`` decides about where it lies and its size."""
    radius = side * (20, 31, 16, 26, 36, 23)[number % 6] // 100
    cx, cy = (
        side * f // 100 + int(dice.ints(-3, 4))
        for f in ((40, 55), (58, 45), (30, 66), (66, 34), (48, 50), (36, 36))[number % 6]
    )
    y, x = np.mgrid[:side, :side] - np.array([cy, cx])[:, None, None]
    if kind == 0:
        return 9 * (x + y // 3) ** 2 + 16 * (y - x // 4) ** 2 < 9 * radius**2
    if kind == 2:
        return (x**2 + y**2 < radius**2) & ((2 * x + 3 * y) % (radius + 3) < (2 * radius) // 3)
    corners = AROUND * dice.ints(radius // 2, radius + 1, 8)[:, None] // 64
    inside = np.zeros((side, side), bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, 0)):  # even-odd rule, without a division
        between = (ay > y) != (by > y)
        inside ^= between & (((x - ax) * (by - ay) < (bx - ax) * (y - ay)) == (by > ay))
    return inside


def _image(seed: int, number: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Image ``number`` of an episode (3, S, S) and its label (S, S), uint8; 0 is the query."""
    dice, colours = _Dice(seed, number), _Dice(seed).ints(40, 216, 3)  # the object's colours are those of the episode
    y, x = np.mgrid[:side, :side]
    inside = _inside(seed % 3, dice, side, number)
    a, b, c, d = (int(v) for v in dice.ints(1, 6, 4))
    ground = (
        dice.ints(0, 256, 3)[:, None, None] // 2
        + 60 * ((a * x + b * y) // 11 % 2)
        + (c * x + d * y) * 64 // (10 * side)
    )
    thing = colours[:, None, None] + 30 * ((x // 4 + y // 4) % 2) - 15
    noise = dice.ints(-12, 13, 3, side, side)
    return np.clip(np.where(inside, thing, ground) + noise, 0, 255).astype(np.uint8), inside.astype(np.uint8)


def episode(seed: int, shots: int, side: int) -> dict[str, np.ndarray]:
    """Images (1, 3, S, S) and (1, K, 3, S, S), labels (1, S, S) and (1, K, S, S) of 0, 1, 255, and class 1..5 (1,)."""
    images, labels = zip(*(_image(seed, number, side) for number in range(shots + 1)))
    labels = np.stack(labels)
    labels[1, :, side // 2 : side // 2 + side // 12] = 255  # a band to ignore, across the first support
    return {
        "query": images[0][None],
        "query_label": labels[:1],
        "support": np.stack(images[1:])[None],
        "support_label": labels[None, 1:],
        "class_id": np.array([1 + seed % 5]),
    }


def word_vectors(seed: int = 7, count: int = 21, width: int = 300) -> np.ndarray:
    """Unit vectors (count, width) float32 in place of word vectors."""
    v = _Dice(seed).ints(-999, 1000, count, width).astype(np.float64)
    return np.round(v / np.sqrt((v**2).sum(1, keepdims=True)), 6).astype(np.float32)
