"""Episodes of drawn images for parity tests, in integers of raw PCG64 bits alone: equal on every machine."""

import numpy as np

AROUND = np.array([[64, 0], [45, 45], [0, 64], [-45, 45], [-64, 0], [-45, -45], [0, -64], [45, -45]])  # 64 (cos, sin)

PLACES = (  # of an object's middle, and its radius, in hundredths of the side
    ((40, 55), 20),
    ((58, 45), 31),
    ((30, 66), 16),
    ((66, 34), 26),
    ((48, 50), 36),
    ((36, 36), 23),
)


class _Dice:
    def __init__(self, *seed: int) -> None:
        self.bits = np.random.PCG64(list(seed))

    def ints(self, low: int, high: int, *shape: int) -> np.ndarray:
        """Integers of low <= x < high."""
        raw = self.bits.random_raw(int(np.prod(shape, dtype=int))).reshape(shape)
        return low + (raw % np.uint64(high - low)).astype(np.int64)


def _inside(kind: int, dice: _Dice, side: int, number: int) -> np.ndarray:
    """Mask (S, S) of an ellipse, a star or a striped disc; ``number`` decides about where it lies and its size."""
    place, size = PLACES[number % 6]
    radius = side * size // 100
    left, top = (side * share // 100 + int(dice.ints(-3, 4)) for share in place)
    y = np.arange(side)[:, None] - top
    x = np.arange(side) - left
    if kind == 0:
        along = 3 * (x + y // 3)
        across = 4 * (y - x // 4)
        return along**2 + across**2 < (3 * radius) ** 2
    if kind == 2:
        stripes = (2 * x + 3 * y) % (radius + 3)
        return (x**2 + y**2 < radius**2) & (stripes < 2 * radius // 3)
    return _inside_of_corners(AROUND * dice.ints(radius // 2, radius + 1, 8)[:, None] // 64, x, y)


def _inside_of_corners(corners: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mask of a polygon by the even-odd rule, without a division."""
    inside = np.zeros((len(y), len(x)), bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, 0)):
        is_between = (ay > y) != (by > y)
        is_left = (x - ax) * (by - ay) < (bx - ax) * (y - ay)
        inside ^= is_between & (is_left == (by > ay))
    return inside


def _image(seed: int, number: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Image ``number`` of an episode (3, S, S) and its label (S, S), uint8; 0 is the query."""
    dice, colours = _Dice(seed, number), _Dice(seed).ints(40, 216, 3)  # the object's colours are those of the episode
    x = np.arange(side)
    y = x[:, None]
    inside = _inside(seed % 3, dice, side, number)
    a, b, c, d = dice.ints(1, 6, 4)
    plain = dice.ints(0, 256, 3)[:, None, None] // 2
    stripes = 60 * ((a * x + b * y) // 11 % 2)
    slope = (c * x + d * y) * 64 // (10 * side)
    checks = 30 * ((x // 4 + y // 4) % 2)
    thing = colours[:, None, None] + checks - 15
    image = np.where(inside, thing, plain + stripes + slope) + dice.ints(-12, 13, 3, side, side)
    return image.clip(0, 255).astype(np.uint8), inside.astype(np.uint8)


def episode(seed: int, shots: int, side: int) -> dict[str, np.ndarray]:
    """Images (1, 3, S, S) and (1, K, 3, S, S), labels (1, S, S) and (1, K, S, S) of 0, 1, 255, and class 1..5 (1,)."""
    images, labels = map(np.stack, zip(*(_image(seed, number, side) for number in range(shots + 1))))
    middle = side // 2
    labels[1, :, middle : middle + side // 12] = 255  # a band to ignore, across the first support
    return {
        "query": images[:1],
        "query_label": labels[:1],
        "support": images[None, 1:],
        "support_label": labels[None, 1:],
        "class_id": np.array([1 + seed % 5]),
    }


def word_vectors(seed: int = 7, count: int = 21, width: int = 300) -> np.ndarray:
    """Unit vectors (count, width) float32 in place of word vectors."""
    drawn = _Dice(seed).ints(-999, 1000, count, width).astype(np.float64)
    return np.round(drawn / np.sqrt((drawn**2).sum(1, keepdims=True)), 6).astype(np.float32)
