"""Paired difference of the mIoU of results on the same episodes, with a bootstrap interval over query images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from util.data.lists.manifest import Manifest, read_manifest, ways_of
from util.errors import UserError
from util.report.schema import find_results, read_result
from util.report.scores import FINAL, counts_of, mean_iou
from util.report.table import passes_in_words, protocol_name

DRAWS, SEED = 2000, 0  # number of bootstrap samples, and their seed
TAIL = 2.5  # percent on either side of the interval
DIFFERENT = "scored differently: the difference below is that of the scoring too, and no verdict on the systems"
CHUNK = 100  # samples computed at once


@dataclass(frozen=True)
class Scored:
    """Episodes with the pixel counts of one system; an episode with N ways has N entries.

    Attributes:
        keys: seed (in joined runs: number of the run, seed), query, class, supports.
        counts: (entries, 2) int64: intersection, union.
        episodes: number of episodes.
    """

    source: Path
    note: str
    keys: list[tuple]
    counts: np.ndarray
    episodes: int

    @property
    def ways(self) -> int:
        """N of every episode."""
        return len(self.keys) // max(self.episodes, 1)


@dataclass(frozen=True)
class Difference:
    """mIoU of A and of B in percent, and the 95 % interval of B - A in percentage points."""

    a: float
    b: float
    low: float
    high: float
    episodes: int
    queries: int

    @property
    def within_noise(self) -> bool:
        """Whether the interval contains zero."""
        return self.low <= 0 <= self.high

    @property
    def verdict(self) -> str:
        """The conclusion from the interval, as a sentence."""
        where, contains = ("within", "contains") if self.within_noise else ("beyond", "does not contain")
        return f"{where} the noise: the interval {contains} 0"


def compare(*runs: Path, output: str = FINAL) -> str:
    """Return a text on the paired difference of results, run folders or manifests.

    Args:
        runs: A, B, and for further training runs of both systems A, B again; then the mean over all pairs is compared.
        output: name of the output of both, or ``<A's output>:<B's output>``.

    Raises:
        UserError: the runs have different episodes, lack that output, hold no counts, or do not come in pairs.
    """
    if len(runs) < 2 or len(runs) % 2:
        raise UserError(f"compare takes pairs A B [A B ...], not {len(runs)} paths; {runs[-1]} has no partner")
    of_a, _, of_b = output.partition(":")
    firsts = [read_scored(path, of_a) for path in runs[::2]]
    seconds = [read_scored(path, of_b or of_a) for path in runs[1::2]]
    for scored in (*seconds, *firsts[1:]):
        _check_same_episodes(firsts[0], scored)
    lines, several = [], len(firsts) > 1
    for a, b in zip(firsts, seconds, strict=True):
        d = difference(a, b)
        lines += [f"A  {d.a:6.2f}  {a.source} {a.note}", f"B  {d.b:6.2f}  {b.source} {b.note}"]
        if several:
            lines.append(f"   {d.b - d.a:+6.2f}  [{d.low:+.2f}, {d.high:+.2f}]")
    if several:
        d = difference(_join(firsts), _join(seconds))
    over = f", mean of {len(firsts)} pairs" if several else ""
    which = f"{of_a} output" if of_b in ("", of_a) else f"outputs ({of_b} of B, {of_a} of A)"
    lines += [
        f"B - A = {d.b - d.a:+.2f} mIoU points of the {which}{over}, "
        f"95 % interval [{d.low:+.2f}, {d.high:+.2f}] over {d.episodes} paired episodes "
        f"({DRAWS} bootstrap samples of their {d.queries} query images, each with all its episodes)",
        d.verdict,
    ]
    if several:
        lines.append("note: the interval is for these trained networks; the pairs show the spread of training runs")
    if len({scored.note for scored in (*firsts, *seconds)}) > 1:
        lines.remove(d.verdict)
        lines.insert(0, DIFFERENT)
    return "\n".join(lines)


def _join(runs: list[Scored]) -> Scored:
    """Return the episodes of all runs as one, whose mIoU is the mean over runs."""
    keys = [((number, key[0]), *key[1:]) for number, scored in enumerate(runs) for key in scored.keys]
    counts, episodes = np.concatenate([scored.counts for scored in runs]), sum(scored.episodes for scored in runs)
    return Scored(runs[0].source, runs[0].note, keys, counts, episodes)


def read_scored(path: Path, output: str) -> Scored:
    """Return the scored episodes of a result file, of a folder with one result, or of a manifest.

    Raises:
        UserError: there is no such result, several, or one without counts of that output.
    """
    note = ""
    if path.suffix != ".jsonl":
        results = find_results([path])
        if len(results) > 1:
            raise UserError(
                f"{path}: holds {len(results)} results; name one of them, such as {results[0].parent.relative_to(path)}"
            )
        result = read_result(results[0])
        note = _note(protocol_name(result), result["scored_on"], passes_in_words(result), result["quick_look"])
        path = results[0].parent / Path(result["manifest"]).name
    return _scored(path, read_manifest(path), note, output)


def _note(protocol: str, scored_on: str, averaged: str | None, quick_look: bool | None) -> str:
    """Return the protocol and settings of the scoring in parentheses."""
    marks = f", {averaged}" if averaged else ""
    return f"({protocol}, scored on {scored_on}{marks}{', QUICK LOOK' if quick_look else ''})"


def _scored(path: Path, manifest: Manifest, note: str, output: str) -> Scored:
    """Return the counts of one output of a manifest."""
    keys, counts = [], []
    for line, episode in zip(manifest.lines, manifest.episodes, strict=True):
        if not isinstance(episode.get("outputs"), dict):
            raise UserError(f"{path}:{line}: this episode was not scored; take the episodes.jsonl of a test")
        try:
            values = counts_of(episode, output)
        except UserError as error:
            raise UserError(f"{path}:{line}: {error}") from None
        for (class_id, supports), (_, *pair) in zip(ways_of(episode), values, strict=True):
            keys.append((episode.get("seed", 0), episode["query"], class_id, tuple(supports)))
            counts.append(pair)
    if not note:
        protocol, scored_on = (manifest.header.get(key, "unknown") for key in ("protocol", "scored_on"))
        note = _note(protocol, scored_on, manifest.header.get("averaged"), manifest.header.get("quick_look"))
    return Scored(path, note, keys, np.array(counts, np.int64), len(manifest.episodes))


def _check_same_episodes(a: Scored, b: Scored) -> None:
    advice = "score both on the same: test.py --manifest FILE.jsonl writes those of one and replays them for the other"
    if (a.episodes, a.ways) != (b.episodes, b.ways):
        sizes = [f"{s.episodes}{'' if s.ways == 1 else f' {s.ways}-way'}" for s in (a, b)]
        raise UserError(f"{a.source} has {sizes[0]} episodes, {b.source} has {sizes[1]}; {advice}")
    for entry, (x, y) in enumerate(zip(a.keys, b.keys)):
        if x != y:
            number = entry // a.ways
            shown = [f"query {k[1]}, class {k[2]}, supports {', '.join(k[3])}" for k in (x, y)]
            raise UserError(f"{a.source} and {b.source} differ in episode {number} ({shown[0]}; {shown[1]}); {advice}")


def difference(a: Scored, b: Scored) -> Difference:
    """Return the paired difference; in each bootstrap sample mIoU is computed for each seed, then averaged over seeds.

    A bootstrap sample draws query images, each with all its episodes of all seeds, because episodes of the same query
    image are not independent.
    """
    random = np.random.Generator(np.random.PCG64(SEED))
    tables = [_sums_by_query(s) for s in (a, b)]  # each (seeds, queries, 3, classes)
    queries = tables[0].shape[1]
    draws = []
    for _ in range(0, DRAWS, CHUNK):
        times = random.multinomial(queries, np.full(queries, 1 / queries), size=CHUNK).astype(np.float64)
        draws.append(np.stack([_miou(times, t) for t in tables], axis=1))
    miou_a, miou_b = (float(_miou(np.ones((1, queries)), t)[0]) for t in tables)
    sample = np.concatenate(draws)  # (draws, 2)
    low, high = np.percentile(sample[:, 1] - sample[:, 0], [TAIL, 100 - TAIL])
    return Difference(miou_a, miou_b, float(low), float(high), a.episodes, queries)


def _sums_by_query(scored: Scored) -> np.ndarray:
    """Return intersections, unions and numbers of episodes, (seeds, queries, 3, classes), summed by query image."""
    numbers = [{value: n for n, value in enumerate(sorted({key[i] for key in scored.keys}))} for i in (0, 1, 2)]
    seeds, queries, classes = map(len, numbers)
    seed, query, class_id = (np.array([number[key[i]] for key in scored.keys]) for i, number in enumerate(numbers))
    out = np.zeros((seeds, queries, 3, classes))
    for column, values in enumerate((*scored.counts.T, np.ones(len(scored.keys)))):
        np.add.at(out[:, :, column], (seed, query, class_id), values)
    return out


def _miou(times_bq: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Return the mIoU, mean over seeds, of B bootstrap samples, (B,).

    Args:
        times_bq: how often each query occurs in each sample, (B, queries).
        sums: of ``_sums_by_query``.
    """
    seeds, queries, _, classes = sums.shape
    totals = (times_bq @ sums.reshape(seeds, queries, -1)).reshape(seeds, len(times_bq), 3, classes)
    return mean_iou(totals[:, :, 0], totals[:, :, 1], totals[:, :, 2]).mean(0)
