"""Move the edges of masks to edges of the photo, before any threshold.

On a smaller copy of the photo, the margins u of a class become the x that minimises

    sum_i (x_i - u_i - c_i)^2 + L sum_ij exp(-|I_i - I_j|^2 / 2 s^2) (x_i - x_j)^2

over pixels i and neighbours j, where I is the colour, and c says in and around the mask whether a colour is more
frequent inside than outside. So margins spread over areas of one colour (random walker, Grady 2006, whose data are the
network's margins), and each photo's own colours count (as in GrabCut, Rother et al. 2004). Colours alone leave specks
beside the object and holes in it, which masks do without.
"""

from typing import Any

import cv2
import numpy as np

SIDE = 240  # of the smaller photo, the longer one, in pixels
TIES, CONTRAST = 500.0, 0.015  # L; s, of Lab colours whose lightness is 0..1
ROUNDS, STEPS = 4, 40  # of new colours; of conjugate gradients, each of which carries a margin one pixel further
BITS = 4  # of red, green and blue, for the frequencies of colours
AROUND = 0.2  # reach of the mask's surroundings as a share of the longer side
TINY = 1e-6  # added to standard deviations


def refined(image: np.ndarray, margins: np.ndarray) -> np.ndarray:
    """Return the margins (classes, H, W) float32 of a photo (H, W, 3) uint8 with edges where the photo has them."""
    from scipy.sparse import diags_array
    from scipy.sparse.linalg import cg

    height, width = image.shape[:2]
    shrink = min(SIDE / max(height, width), 1)
    size = max(round(shrink * width), 1), max(round(shrink * height), 1)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    ties = _ties(small)
    total = (1 + ties.sum(0)).astype(np.float32)
    system = (diags_array(total) - ties).tocsr()
    inverse = diags_array(1 / total)

    out = np.empty_like(margins)
    for given, target in zip(margins, out, strict=True):
        u = cv2.resize(given, size, interpolation=cv2.INTER_AREA)
        x = u
        for _ in range(ROUNDS):
            wanted = u + u.std() * _colour_term(small, x > 0)
            solution, _ = cg(system, wanted.ravel(), x0=x.ravel(), maxiter=STEPS, M=inverse)
            x = solution.reshape(u.shape)
        x *= (u.std() + TINY) / (x.std() + TINY)  # with the deviation of before
        target[:] = cv2.resize(x, (width, height), interpolation=cv2.INTER_LINEAR)
    return out


def _ties(image: np.ndarray) -> Any:
    """Return L exp(-|I_i - I_j|^2 / 2 s^2) of all neighbours i, j of a photo (h, w, 3), a sparse matrix (hw, hw)."""
    from scipy.sparse import coo_array

    colour = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).reshape(-1, 3) / 100
    pixels = len(colour)
    index = np.arange(pixels).reshape(image.shape[:2])
    first = np.concatenate([index[:, :-1].ravel(), index[:-1].ravel()])
    second = np.concatenate([index[:, 1:].ravel(), index[1:].ravel()])
    tie = TIES * np.exp(-((colour[first] - colour[second]) ** 2).sum(1) / (2 * CONTRAST**2))
    one_way = coo_array((tie, (first, second)), shape=(pixels, pixels))
    return (one_way + one_way.T).tocsr()


def _colour_term(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return c (h, w) in -1..1 of a mask (h, w) bool: whether a colour is more frequent in it than around it."""
    if inside.sum() < 20:  # too few for frequencies
        return np.zeros(inside.shape, np.float32)
    reach = 2 * int(AROUND * max(inside.shape)) + 1
    near = cv2.dilate(inside.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0
    cell = (image >> (8 - BITS)) @ (1 << BITS * np.arange(3))
    ratio = np.log(_frequencies(cell[inside]) / _frequencies(cell[near & ~inside])).astype(np.float32)[cell]
    return near * (ratio / 4).clip(-1, 1)  # at 4 a margin changes by the standard deviation of all


def _frequencies(cells: np.ndarray) -> np.ndarray:
    """Return the frequency of each colour among pixels' cells, above 0 also where there is none."""
    counts = np.bincount(cells, minlength=1 << 3 * BITS)
    return 1e-5 + counts / max(int(counts.sum()), 1)


def without_specks(mask: np.ndarray) -> np.ndarray:
    """Return a mask (H, W) uint8, 0 is background, without the specks of its classes, and with their holes filled."""
    out = mask.copy()
    for value in np.unique(mask[mask > 0]):
        inside = (out == value).astype(np.uint8)
        _, parts, facts, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
        least = 0.02 * facts[1:, cv2.CC_STAT_AREA].max()  # of its largest part; smaller ones and holes are none
        speck = facts[:, cv2.CC_STAT_AREA] < least
        speck[0] = False
        out[speck[parts]] = 0
        inside[speck[parts]] = 0
        _, parts, facts, _ = cv2.connectedComponentsWithStats(1 - inside, connectivity=4)
        left, top, width, height, area = facts.T
        hole = (area < least) & (np.minimum(left, top) > 0)
        hole &= (left + width < mask.shape[1]) & (top + height < mask.shape[0])
        out[hole[parts] & (mask == 0)] = value
    return out
