"""``predict.py suggest``: the photos of a folder that are worth marking next.

A photo is a unit vector, the mean of its cells in the encoder's last map, and d the cosine distance of two. Suggested
is the photo that brings those like the supports nearest to a marked one,

    the largest p(photo) times the sum over photos i of (1 - p(i)) max(0, near(i) - d(i, photo)),

where near(i) is the distance of i to the nearest support or earlier suggestion, at most 1, and p = 1 - near by the
supports alone. Without supports p and 1 - p are left out, and the first photo is the one nearest to the folder's mean.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from model.common.with_encoder import WithEncoder
from model.episode import IGNORE
from util.cli import Parser, within
from util.errors import EXIT_USER_ERROR, UserError
from util.files import write_atomically
from util.predict.options import add_model_and_supports, marked_by, segmenter_of
from util.predict.photos import photos_in, read_photo
from util.predict.segmenter import Segmenter
from util.report.table import Table

COUNT = 5  # suggestions
ALIKE = 0.1  # of the median distance of two photos: nearer ones are alike, such as a photo and a part of it


@torch.inference_mode()
def suggested(
    segmenter: Segmenter,
    photos: Sequence[str | Path],
    count: int = COUNT,
    failed: dict[Path, str] | None = None,
    progress: bool = False,
) -> list[tuple[Path, str, float]]:
    """Return up to ``count`` photos that are worth marking next, the best first, no two of which are alike.

    Each has a reason, and its distance to the nearest support or earlier photo, at most 1.
    ``failed`` takes the photos that cannot be read, and why, in place of an error; ``progress`` shows a bar.

    Raises:
        UserError: the network has no encoder, or a photo cannot be read.
    """
    model, network = segmenter.model, segmenter.model.network
    if not isinstance(network, WithEncoder):
        raise UserError(f"{network.title}: suggests no photos, since it has no encoder; take another method")

    def vector(image: Tensor, label: Tensor) -> np.ndarray:
        """Return the unit vector of an input, whose photo lies at the top left."""
        with model.forward_pass():
            features = network.cache_query(image.to(model.device)[None])
        x_chw, known = features.stage[max(features.stage)][0].float().cpu(), label.cpu() < IGNORE
        height, width = (max(round(float(known.any(i).float().mean() * x_chw.shape[2 - i])), 1) for i in (1, 0))
        return F.normalize(x_chw[:, :height, :width].mean((1, 2)), dim=0).numpy()

    vectors = dict[Path, np.ndarray]()
    for photo in tqdm([*map(Path, photos)], desc="look", unit="photo", leave=False, disable=not progress):
        try:
            image = read_photo(photo)
        except UserError as error:
            if failed is None:
                raise
            failed[photo] = str(error)
        else:
            vectors[photo] = vector(*model.sized(image, np.zeros(image.shape[:2], np.uint8)))
    if not vectors:
        raise UserError(next(iter((failed or {}).values()), "no photos: name some, or a folder of photos"))
    marked = [vector(*shot) for known in segmenter.classes for shot in zip(known.images[0], known.labels[0])]
    each, read, out = np.stack([*vectors.values()]), [*vectors], list[tuple[Path, str, float]]()
    for index, distance, nearer in ranking(each, np.reshape(marked, (-1, each.shape[1])), count):
        reason = f"far from every {'support' if marked else 'photo above'}, like {nearer - 1} others"
        reason = reason if marked or out else "nearest to the mean of the folder"
        out.append((read[index], reason, distance))
    return out


def ranking(photos: np.ndarray, marked: np.ndarray, count: int) -> list[tuple[int, float, int]]:
    """Return up to ``count`` photos, the best first: index, distance, number of photos that it is nearest to.

    ``photos`` are unit vectors (N, C), ``marked`` those of marked photos (M, C).
    """
    apart, out = 1 - photos @ photos.T, list[tuple[int, float, int]]()
    near = (1 - photos @ marked.T).min(1, initial=1)
    shows, weight = (1 - near, near) if len(marked) else (near, near)  # without supports 1
    alike = max(ALIKE * float(np.median(apart)), 1e-4)  # at least that of a copy, by rounding
    while len(out) < count and (near > alike).any():
        gain = shows * (weight @ np.clip(near[:, None] - apart, 0, None))
        best = int(np.where(near > alike, gain, -1).argmax())
        out.append((best, float(near[best]), int((apart[best] < near).sum())))
        near = np.minimum(near, apart[best])
    return out


def suggest(arguments: list[str]) -> int:
    """Print the photos that a command line asks for, and return the exit code.

    Raises:
        UserError: the command line, a file or the disk.
    """
    parser = Parser(prog="predict.py suggest", description="Name the photos that are worth marking next, best first.")
    add_model_and_supports(parser)
    add = parser.add_argument
    add("--query", dest="queries", nargs="+", type=Path, required=True, metavar="PHOTO", help="photos, folders of them")
    add("--recursive", action="store_true", help="take photos in the sub-folders of such folders too")
    add("--count", type=within(int, 1), default=COUNT, metavar="N", help=f"photos to name; default {COUNT}")
    add("--out", type=Path, metavar="FOLDER", help="write the table as suggest.csv too")
    options = parser.parse_args(arguments)
    queries, failed = photos_in(options.queries, options.recursive), dict[Path, str]()
    segmenter = segmenter_of(options, marked_by(options)[0])
    found = suggested(segmenter, queries, options.count, failed, progress=True)
    for reason in failed.values():
        print(f"error: {reason}", file=sys.stderr)
    table = Table(["photo", "reason", "distance"], [[str(p), reason, f"{d:.2f}"] for p, reason, d in found])
    if len(found) < min(options.count, count := len(queries) - len(failed)):
        table.notes.append(f"{len(found)} of {count} photos; the others are marked, or like one that is or one above")
    print(table)
    if options.out:
        write_atomically(options.out / "suggest.csv", f"{table:csv}\n")
    return EXIT_USER_ERROR if failed else 0
