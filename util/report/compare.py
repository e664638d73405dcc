"""Two results on the same episodes: the paired difference of their mIoU, with a bootstrap interval over episodes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from util.data.manifest import Manifest, read_manifest
from util.errors import UserError, nearest
from util.report.schema import find_results, read_result
from util.report.table import protocol_title

DRAWS, SEED = 2000, 0  # bootstrap samples, and the seed that draws them
TAIL = 2.5  # percent on either side of the interval
CHUNK = 100  # samples drawn at a time
FINAL = "final"


@dataclass(frozen=True)
class Scored:
    """A list of episodes with what one system counted on them."""

    source: Path
    note: str
    keys: list[tuple]  # seed, query, class, supports
    counts: np.ndarray  # (episodes, 2) int64: intersection, union


@dataclass(frozen=True)
class Difference:
    """mIoU of A, of B, and B - A with its 95 % interval; in percent points."""

    a: float
    b: float
    low: float
    high: float
    episodes: int

    @property
    def within_noise(self) -> bool:
        """Whether the interval holds zero."""
        return self.low <= 0 <= self.high


def compare(a: Path, b: Path, output: str = FINAL) -> str:
    """Return in words how two results, run folders or manifests differ, episode by episode.

    Raises:
        UserError: they are not of the same episodes, lack that output, or hold no counts.
    """
    first, second = read_scored(a, output), read_scored(b, output)
    _check_same_episodes(first, second)
    d = difference(first, second)
    verdict = (
        "within the noise: the interval holds 0" if d.within_noise else "beyond the noise: the interval does not hold 0"
    )
    lines = [
        f"A  {d.a:6.2f}  {first.source} {first.note}",
        f"B  {d.b:6.2f}  {second.source} {second.note}",
        f"B - A = {d.b - d.a:+.2f} mIoU points of the {output} output, "
        f"95 % interval [{d.low:+.2f}, {d.high:+.2f}] over {d.episodes} paired episodes ({DRAWS} bootstrap samples)",
        verdict,
    ]
    if first.note != second.note:
        lines.append("note: same episodes, but scored differently or on other terms (see A and B above)")
    return "\n".join(lines)


def read_scored(path: Path, output: str) -> Scored:
    """Return the counted episodes that a result file, a folder with one, or a manifest names."""
    note = ""
    if path.suffix != ".jsonl":
        results = find_results([path])
        if len(results) > 1:
            raise UserError(
                f"{path}: holds {len(results)} results, name one of them, such as {results[0].parent.relative_to(path)}"
            )
        result = read_result(results[0])
        note = f"({protocol_title(result)}, scored on {result['scored_on']}{', QUICK LOOK' * result['quick_look']})"
        path = results[0].parent / result["manifest"]
    return _scored(path, read_manifest(path), note, output)


def _scored(path: Path, manifest: Manifest, note: str, output: str) -> Scored:
    keys, counts = [], []
    for line, episode in zip(manifest.lines, manifest.episodes, strict=True):
        outputs = episode.get("outputs")
        if not isinstance(outputs, dict):
            raise UserError(f"{path}:{line}: this episode was not scored; take the episodes.jsonl of a test")
        if output not in outputs:
            raise UserError(f"{path}:{line}: output '{output}' is unknown{nearest(output, outputs)}")
        values = outputs[output]
        if not isinstance(values, list) or len(values) < 2 or not all(type(v) is int and v >= 0 for v in values):
            shown = json.dumps(values)[:40]
            raise UserError(f"{path}:{line}: counts of '{output}' must be whole numbers [I, U, ...], not {shown}")
        keys.append((episode.get("seed", 0), episode["query"], episode["class"], tuple(episode["supports"])))
        counts.append(values[:2])
    if not note:
        mark = ", QUICK LOOK" if manifest.header.get("quick_look") else ""
        protocol, scored_on = (manifest.header.get(key, "unknown") for key in ("protocol", "scored_on"))
        note = f"({protocol}, scored on {scored_on}{mark})"
    return Scored(path, note, keys, np.array(counts, np.int64))


def _check_same_episodes(a: Scored, b: Scored) -> None:
    advice = "score both on the same: test.py --manifest FILE.jsonl writes those of one and replays them for the other"
    if len(a.keys) != len(b.keys):
        raise UserError(f"{a.source} has {len(a.keys)} episodes, {b.source} has {len(b.keys)}; {advice}")
    for number, (x, y) in enumerate(zip(a.keys, b.keys)):
        if x != y:
            shown = [f"query {k[1]}, class {k[2]}, supports {', '.join(k[3])}" for k in (x, y)]
            raise UserError(f"{a.source} and {b.source} differ in episode {number} ({shown[0]}; {shown[1]}); {advice}")


def difference(a: Scored, b: Scored) -> Difference:
    """Return the paired difference; mIoU is that of each seed, then the mean over seeds, in every bootstrap sample."""
    random = np.random.Generator(np.random.PCG64(SEED))
    seeds = np.array([key[0] for key in a.keys])
    classes = np.array([key[2] for key in a.keys])
    ones, draws = [], []
    for seed in np.unique(seeds):
        rows = np.flatnonzero(seeds == seed)
        member = (classes[rows][:, None] == np.unique(classes[rows])).astype(np.float64)  # (episodes, classes)
        tables = [
            np.concatenate([member * s.counts[rows, :1], member * s.counts[rows, 1:]], axis=1) for s in (a, b)
        ]  # each (episodes, 2 classes): intersections, then unions
        ones.append([_miou(np.ones((1, len(rows))) @ t)[0] for t in tables])
        drawn = []
        for _ in range(0, DRAWS, CHUNK):
            times = random.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=CHUNK).astype(np.float64)
            drawn.append(np.stack([_miou(times @ t) for t in tables], axis=1))
        draws.append(np.concatenate(drawn))
    miou_a, miou_b = np.mean(ones, axis=0)
    sample = np.mean(draws, axis=0)  # (draws, 2)
    low, high = np.percentile(sample[:, 1] - sample[:, 0], [TAIL, 100 - TAIL])
    return Difference(float(miou_a), float(miou_b), float(low), float(high), len(a.keys))


def _miou(sums: np.ndarray) -> np.ndarray:
    """Return the mIoU in percent of each row of summed intersections and unions; absent classes are left out."""
    intersection, union = np.split(sums, 2, axis=1)
    seen = union > 0
    iou = np.where(seen, intersection / np.maximum(union, 1), 0)
    return 100 * iou.sum(1) / np.maximum(seen.sum(1), 1)
