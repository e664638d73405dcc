"""Move the edges of masks to edges of the photo, before any threshold.

On a smaller copy of the photo, the margins u of a class become the x that minimises

    sum_i (x_i - u_i - c_i)^2 + L sum_ij exp(-|I_i - I_j|^2 / 2 s^2) (x_i - x_j)^2

over pixels i and neighbours j, where I is the colour, and c says in and around the mask whether a colour is more
frequent inside than outside. So margins spread over areas of one colour (random walker, Grady 2006, whose data are the
network's margins), and each photo's own colours count (as in GrabCut, Rother et al. 2004). Colours alone leave specks
beside the object and holes in it, which masks do without.
"""

import signal
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from model.episode import Episode, Output
from util.files.parallel import usable_cores
from util.loop.metrics import NETWORK
from util.loop.network import predicted_by

SIDE = 240  # of the smaller photo, the longer one, in pixels
TIES, CONTRAST = 500.0, 0.015  # L; s, of Lab colours whose lightness is 0..1
ROUNDS, STEPS = 4, 40  # of new colours; of conjugate gradients, each of which carries a margin one pixel further
BITS = 4  # of red, green and blue, for the frequencies of colours
AROUND = 0.2  # reach of the mask's surroundings as a share of the longer side
MANY, MOST_PROCESSES = 4, 8  # photos, and cores, from which processes repay their start; processes
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


def refined_photos(images: Iterable[np.ndarray], margins: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Return ``refined`` of several photos; of many, in processes of their own."""
    pairs = list(zip(images, margins, strict=True))
    if len(pairs) < MANY or usable_cores() < MANY:
        return [refined(image, margin) for image, margin in pairs]
    return list(_processes().map(refined, [image for image, _ in pairs], [margin for _, margin in pairs]))


@cache
def _processes() -> ProcessPoolExecutor:
    """Return the processes, which this one keeps; they begin anew, since a process with a GPU must not be forked."""
    count = min(usable_cores(), MOST_PROCESSES)
    return ProcessPoolExecutor(count, get_context("spawn"), initializer=_start_process)


def _start_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the main process handles
    cv2.setNumThreads(0)


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


class WithEdges(nn.Module):
    """A network whose masks get the edges of the query's photo; ``extra`` has its own logits as ``network``.

    The tester calls it like a network, whose features it keeps.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.encode = getattr(network, "encode", None)
        self.supports_enter_as_queries = getattr(network, "supports_enter_as_queries", False)

    def compile(self, *args: object, **kwargs: object) -> None:
        """Compile the network, as ``nn.Module.compile`` does; the step stays Python."""
        self.network.compile(*args, **kwargs)

    def forward(self, episode: Episode) -> Output:
        """Return the output for one class per episode."""
        return self.forward_classes([episode])

    def forward_classes(self, episodes: Sequence[Episode]) -> Output:
        """Return the output for several classes that compete, each of which gets edges of its own."""
        output = predicted_by(self.network, episodes)
        logits = output.logits.float()
        background = logits[:, :1]
        photos = episodes[0].query.permute(0, 2, 3, 1).byte().cpu().numpy()
        margins = (logits[:, 1:] - background).cpu().numpy()
        refined_margins = torch.from_numpy(np.stack(refined_photos(photos, margins))).to(logits.device)
        refined_logits = torch.cat([torch.zeros_like(background), refined_margins], dim=1)
        return replace(output, logits=refined_logits, extra={**output.extra, NETWORK: logits})
