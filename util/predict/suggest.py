"""``predict.py suggest``: the photos of a folder that are worth marking next.

A photo is a unit vector, the mean of its cells in the encoder's last map, and d the cosine distance of two. The photo
that brings the others nearest to a marked one is suggested,

    the largest sum over photos i of w(i) max(0, near(i) - d(i, photo)),

where near(i) is the distance of i to the nearest support or earlier suggestion, at most 1, and w(i) tells how unsure
the prediction of i is. Without supports all w are 1, and the first photo is the one nearest to the folder's mean.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from model.common.with_encoder import WithEncoder
from model.encoders.features import Features
from model.episode import IGNORE
from util.cli import Parser, within
from util.errors import EXIT_USER_ERROR, UserError
from util.files import write_atomically
from util.predict.adapt import NONE
from util.predict.options import add_model_and_supports, marked_by, segmenter_of
from util.predict.photos import photos_in, read_photo
from util.predict.segmenter import Segmenter
from util.report.table import Table

COUNT = 5  # suggestions
UNSURE = 0.25  # share of the photos that are called least sure
ALIKE = 0.1  # of the median distance of two photos: nearer ones are alike, such as a photo and a part of it
SAME = 1e-4  # distance of copies, by rounding


class Suggestion(NamedTuple):
    """A photo to mark, and why.

    ``distance`` is that to the nearest support or earlier suggestion, 1 without any; ``unsure`` the mean probability
    over the pixels that they are of another class than predicted, None without supports.
    """

    photo: Path
    reason: str
    distance: float
    unsure: float | None


@torch.inference_mode()
def suggested(
    segmenter: Segmenter,
    photos: Sequence[str | Path],
    count: int = COUNT,
    failed: dict[Path, str] | None = None,
    progress: bool = False,
) -> list[Suggestion]:
    """Return up to ``count`` photos that are worth marking next, the best first, none of which is like another.

    ``failed`` takes the photos that cannot be read, and why, in place of an error; ``progress`` shows a bar.

    Raises:
        UserError: the network has no encoder, or a photo cannot be read.
    """
    model, read, vectors, unsure = segmenter.model, list[Path](), list[np.ndarray](), list[float]()
    network = model.network
    if not isinstance(network, WithEncoder):
        raise UserError(f"{network.title}: suggests no photos, since it has no encoder; take another method")

    def seen(image: Tensor, label: Tensor) -> Features:
        """Return the features of an input, whose vector is kept."""
        with model.forward_pass():
            out = network.cache_query(image[None])
        known, x_chw = label != IGNORE, out.stage[max(out.stage)][0].float()  # the photo lies at the top left
        rows, columns = (known.any(side).float().mean() * x_chw.shape[2 - side] for side in (1, 0))
        x_c = x_chw[:, : max(round(float(rows)), 1), : max(round(float(columns)), 1)].mean((1, 2))
        vectors.append(F.normalize(x_c, dim=0).cpu().numpy())
        return out

    for photo in tqdm(photos, desc="look", unit="photo", leave=False, disable=not progress):
        try:
            image = read_photo(photo)
        except UserError as error:
            if failed is None:
                raise
            failed[Path(photo)] = str(error)
            continue
        sized, label = (x.to(model.device) for x in model.sized(image, np.zeros(image.shape[:2], np.uint8)))
        features = seen(sized, label)
        read.append(Path(photo))
        if segmenter.classes:
            margins = segmenter.scores(sized[None], features)[0][0, :, label != IGNORE]
            sure = torch.cat([torch.zeros_like(margins[:1]), margins]).softmax(0).amax(0)
            unsure.append(float(1 - sure.mean()))
    for known in segmenter.classes:
        for shot in zip(known.images[0], known.labels[0]):
            seen(*shot)
    if not read:
        raise UserError(f"{next(iter(photos))}: cannot be read, and no other photo can; name a folder with photos")
    out, each, weight = list[Suggestion](), np.stack(vectors), np.array(unsure or [1.0] * len(read))
    for index, distance in ranking(each[: len(read)], each[len(read) :], weight, count):
        if not out and not segmenter.classes:
            reason = "nearest to the mean of the folder"
        elif unsure and (weight > weight[index]).mean() <= UNSURE:
            reason = "least sure"
        else:
            reason = f"far from every {'support' if segmenter.classes else 'photo before'}"
        out.append(Suggestion(read[index], reason, distance, unsure[index] if unsure else None))
    return out


def ranking(photos: np.ndarray, marked: np.ndarray, weight: np.ndarray, count: int) -> list[tuple[int, float]]:
    """Return up to ``count`` photos, the best first: index, and distance to the nearest marked or earlier one.

    Args:
        photos: unit vectors (N, C).
        marked: those of marked photos (M, C).
        weight: (N,).
    """
    apart, out = 1 - photos @ photos.T, list[tuple[int, float]]()
    near = (1 - photos @ marked.T).min(1, initial=1)
    alike = max(ALIKE * float(np.median(apart)), SAME)
    while len(out) < count and (near > alike).any():
        gain = weight @ np.clip(near[:, None] - apart, 0, None)
        best = int(np.where(near > alike, gain, -1).argmax())
        out.append((best, float(near[best])))
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
    parser.set_defaults(tile=None, min_score=None, threshold=None, min_pixels=0, adapt=NONE, refine=False)
    parser.set_defaults(serve=False, host=None, port=None, keep_base=False)
    options = parser.parse_args(arguments)
    queries, failed = photos_in(options.queries, options.recursive), dict[Path, str]()
    segmenter = segmenter_of(options, marked_by(options)[0])
    for note in segmenter.notes:
        print(note)
    found = suggested(segmenter, queries, options.count, failed, progress=True)
    for reason in failed.values():
        print(f"error: {reason}", file=sys.stderr)
    rows = [[str(s.photo), s.reason, f"{s.distance:.2f}", "" if s.unsure is None else f"{s.unsure:.3f}"] for s in found]
    table = Table(["photo", "reason", "distance", "unsure"], rows)
    if len(found) < options.count:
        table.notes.append(f"{len(queries) - len(failed)} photos: the others are marked, or like a marked or named one")
    print(table)
    if options.out:
        write_atomically(options.out / "suggest.csv", f"{table:csv}\n")
    return EXIT_USER_ERROR if failed else 0
