"""``predict.py suggest``: the photos of a folder that are worth marking next.

A photo is a unit vector, the mean of its cells in the encoder's last map, and d the cosine distance of two. A suggested
photo seems to show a class, and is like many photos in which the classes are not surely found:

    the largest p(photo) times the sum over photos i of (1 - p(i)) max(0, near(i) - d(i, photo)),

where p is the greatest presence score of a class, and near(i) the distance of i to the nearest support or earlier
suggestion, at most 1. Weights without a calibration have p = 1 - near, from the supports alone. Without supports p and
1 - p are left out; the first photo is then the one nearest to the folder's mean.
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
from util.evaluate.calibration import evidence_of
from util.files import write_atomically
from util.predict.adapt import NONE
from util.predict.options import add_model_and_supports, marked_by, segmenter_of
from util.predict.photos import photos_in, read_photo
from util.predict.segmenter import Segmenter
from util.report.table import Table

COUNT = 5  # suggestions
ALIKE = 0.1  # of the median distance of two photos: nearer ones are alike, such as a photo and a part of it
SAME = 1e-4  # distance of copies, by rounding
UNSURE = 0.25, 0.75  # presence of photos that are called least sure


class Suggestion(NamedTuple):
    """A photo to mark, and why.

    ``distance`` is that to the nearest support or earlier suggestion, at most 1; ``presence`` the greatest score of a
    class, None without supports or a calibration.
    """

    photo: Path
    reason: str
    distance: float
    presence: float | None


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
    model, calibration = segmenter.model, segmenter.calibration if segmenter.classes else None
    network, read, vectors, scores = model.network, list[Path](), list[np.ndarray](), list[float]()
    if not isinstance(network, WithEncoder):
        raise UserError(f"{network.title}: suggests no photos, since it has no encoder; take another method")

    def look(image: Tensor, label: Tensor) -> tuple[Features, int, int]:
        """Return the features of an input, whose vector is kept, and height and width of its photo, at the top left."""
        with model.forward_pass():
            features = network.cache_query(image[None])
        height, width = (int((label < IGNORE).any(axis).sum()) for axis in (1, 0))
        x_chw = features.stage[max(features.stage)][0].float()
        rows, columns = (max(round(n / len(label) * cells), 1) for n, cells in zip((height, width), x_chw.shape[1:]))
        vectors.append(F.normalize(x_chw[:, :rows, :columns].mean((1, 2)), dim=0).cpu().numpy())
        return features, height, width

    for photo in tqdm(photos, desc="look", unit="photo", leave=False, disable=not progress):
        try:
            image = read_photo(photo)
        except UserError as error:
            if failed is None:
                raise
            failed[Path(photo)] = str(error)
            continue
        sized, label = (x.to(model.device) for x in model.sized(image, np.zeros(image.shape[:2], np.uint8)))
        features, height, width = look(sized, label)
        read.append(Path(photo))
        if calibration is not None:
            margins, own = segmenter.scores(sized[None], features)
            shown = margins[0, :, :height, :width].cpu()
            evidence = [evidence_of(x, None if own is None else own[0, n].cpu()).numpy() for n, x in enumerate(shown)]
            scores.append(max(map(calibration.presence, evidence)))
    if not read:
        raise UserError(next(iter((failed or {}).values()), "no photos: name some, or a folder of photos"))
    for known in segmenter.classes:
        for shot in zip(known.images[0], known.labels[0]):
            look(*shot)
    each, out = np.stack(vectors), list[Suggestion]()
    for index, distance, nearer in ranking(each[: len(read)], each[len(read) :], np.array(scores), count):
        presence = scores[index] if scores else None
        if not (out or segmenter.classes):
            reason = "nearest to the mean of the folder"
        elif presence is not None and UNSURE[0] <= presence <= UNSURE[1]:
            reason = "least sure"
        else:
            reason = f"far from every {'support' if segmenter.classes else 'photo above'}, like {nearer - 1} others"
        out.append(Suggestion(read[index], reason, distance, presence))
    return out


def ranking(photos: np.ndarray, marked: np.ndarray, presence: np.ndarray, count: int) -> list[tuple[int, float, int]]:
    """Return up to ``count`` photos, the best first: index, distance, number of photos that it is nearest to.

    Args:
        photos: unit vectors (N, C).
        marked: those of marked photos (M, C).
        presence: p (N,); empty for 1 - near.
    """
    apart, out = 1 - photos @ photos.T, list[tuple[int, float, int]]()
    near = (1 - photos @ marked.T).min(1, initial=1)
    shows = presence if len(presence) else 1 - near
    shows, weight = (shows, 1 - shows) if len(marked) else (np.ones(len(photos)), np.ones(len(photos)))
    alike = max(ALIKE * float(np.median(apart)), SAME)
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
    rows = [
        [str(s.photo), s.reason, f"{s.distance:.2f}", "" if s.presence is None else f"{s.presence:.2f}"] for s in found
    ]
    table = Table(["photo", "reason", "distance", "presence"], rows)
    if len(found) < min(options.count, count := len(queries) - len(failed)):
        table.notes.append(
            f"{len(found)} of {count} photos; the others are marked, or like one that is marked or above"
        )
    print(table)
    if options.out:
        write_atomically(options.out / "suggest.csv", f"{table:csv}\n")
    return EXIT_USER_ERROR if failed else 0
