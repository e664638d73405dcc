"""Paired difference of the mIoU of results on the same episodes, with a bootstrap interval over query images."""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from util.config.settings import EDGES
from util.data.lists.manifest import read_manifest, ways_of
from util.errors import UserError, nearest
from util.report.schema import FINAL, MANIFEST, NETWORK, counts_of, find_results, mean_iou
from util.report.table import Table

DRAWS, CHUNK = 2000, 100  # number of bootstrap samples, and of those computed at once


def compare(*runs: Path, output: str = FINAL) -> Table:
    """Return a table of the paired difference of results, run folders or manifests; its last note is the verdict.

    Args:
        runs: A, B, and for further training runs of both systems A, B again; then the mean over all pairs is compared.
        output: name of the output of both, or ``<A's output>:<B's output>``.

    UserError: the runs have different episodes, lack that output, hold no counts, or do not come in pairs.
    """
    if len(runs) < 2 or len(runs) % 2:
        raise UserError(f"compare takes pairs A B [A B ...], not {len(runs)} paths; {runs[-1]} has no partner")
    of_a, _, of_b = output.partition(":")
    outputs = of_a, of_b or of_a
    scored = [read_scored(path, outputs[i % 2]) for i, path in enumerate(runs)]
    _check_episodes(scored)
    sums = [one.sums for one in scored]
    pairs, out = len(runs) // 2, Table(["mIoU %", "A", "B", "B - A", "95 % from", "to"], [])
    which = f"{of_a} output" if of_b in ("", of_a) else f"outputs ({of_b} of B, {of_a} of A)"
    each = {f"pair {i + 1}": slice(i, i + 1) for i in range(pairs)} if pairs > 1 else {}
    for name, part in {**each, which: slice(None)}.items():
        a, b, low, high = difference(sums[::2][part], sums[1::2][part])
        out.rows.append([name, f"{a:.2f}", f"{b:.2f}", *(f"{value:+.2f}" for value in (b - a, low, high))])
    described = [f"{one.file} {one.note}" for one in scored]
    out.facts = {f"of {side}": [*described[i::2], ""][: len(out.rows)] for i, side in enumerate("AB")}
    over = f", mean of {pairs} pairs" if pairs > 1 else ""
    out.notes = [
        *(f"{'AB'[i % 2]}: {run}" for i, run in enumerate(described)),
        f"B - A = {b - a:+.2f} mIoU points of the {which}{over}, 95 % interval [{low:+.2f}, {high:+.2f}] over "
        f"{pairs * len(scored[0].episodes)} paired episodes ({DRAWS} bootstrap samples of their "
        f"{sums[0].shape[1]} query images, each with all its episodes)",
    ]
    if pairs > 1:
        out.notes.append("the interval is for these trained networks; the pairs show the spread of training runs")
    sides = sorted({one.input_side for one in scored if one.input_side is not None})
    if len(sides) > 1:
        words = ", ".join(f"{side} px" for side in sides)
        out.notes.append(f"warning: different image sides ({words}): the difference is that of the sides too")
    out.notes.append(_verdict(scored, low, high))
    return out


class Scored(NamedTuple):
    """A result that is compared."""

    file: Path  # its manifest
    note: str  # how it was scored, in words
    draw: str  # whether its episodes are published ones, in words; '' if it does not say so
    input_side: int | None  # of the network's input in pixels; None: of original sizes, or not known
    label_side: int | None  # of the labels, where they are sized like the input; None: other labels, or not known
    episodes: list[tuple]  # seed, query, and class and supports of each way
    sums: np.ndarray  # of ``_sums_by_query``


def _check_episodes(scored: Sequence[Scored]) -> None:
    """Refuse (UserError) results on different episodes."""
    first = scored[0]
    for other in scored[1:]:
        if other.episodes == first.episodes:
            continue
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first.episodes, other.episodes)))
        counts = f"has {len(first.episodes)} episodes", f"has {len(other.episodes)}"
        draws = [f" ({one.draw})" if one.draw else "" for one in (first, other)]
        both = (
            f"{first.file} {counts[0]}{draws[0]}, {other.file} {counts[1]}{draws[1]}, different from number {same} on"
        )
        raise UserError(f"{both}; score both on the same: test.py --manifest FILE.jsonl replays one's")


def _verdict(scored: Sequence[Scored], low: float, high: float) -> str:
    """Return in words whether the interval of the difference decides between the systems."""
    labels = {one.label_side for one in scored if one.label_side is not None}
    differently = len({one.note for one in scored}) > 1 or len(labels) > 1
    files = [one.file for one in scored]
    if differently and files[::2] != files[1::2]:  # two outputs of one result differ by what they are
        return "scored differently: the difference is that of the scoring too, no verdict on the systems"
    if low <= 0 <= high:
        return "not significant: the interval contains 0"
    return "significant: the interval excludes 0"


def read_scored(path: Path, output: str) -> Scored:
    """Return what a result is compared by; UserError: none is there, several are, or it has no counts of the output."""
    if path.suffix != ".jsonl":
        results = find_results([path])
        if len(results) > 1:
            raise UserError(f"{path}: holds {len(results)} results; name one of them, such as {results[0].parent}")
        path = results[0].parent / MANIFEST
    manifest = read_manifest(path)
    head = manifest.header
    steps = head.get("averaged") or ""
    if output == NETWORK and EDGES not in steps:  # without edges the prediction is the network's
        output = FINAL
    if output != FINAL:  # the prediction alone has edges
        steps = steps.replace(f"{EDGES}, ", "").removeprefix("1 pass")
    for line, episode in zip(manifest.lines, manifest.episodes):
        if output not in (known := episode.get("outputs", {})):
            raise UserError(f"{path}:{line}: no counts of output '{output}'{nearest(output, known)}")
    protocol = head.get("protocol", "unknown") + (f" ({head['fold_rule']} folds)" if "fold_rule" in head else "")
    words = [protocol, f"scored on {head.get('scored_on', 'unknown')}", steps, "QUICK LOOK" * head.get("quick_look", 0)]
    precision = head.get("precision", "float32")  # older manifests do not say it
    words += [] if precision == "float32" else [f"in {precision}"]
    episodes = [(e.get("seed", 0), e["query"], ways_of(e)) for e in manifest.episodes]
    return Scored(
        file=path,
        note=f"({', '.join(filter(None, words))})",
        draw=head.get("episodes", ""),
        input_side=head.get("input_side"),
        label_side=head.get("label_side"),
        episodes=episodes,
        sums=_sums_by_query(manifest.episodes, output),
    )


def difference(firsts: Sequence[np.ndarray], seconds: Sequence[np.ndarray]) -> tuple[float, float, float, float]:
    """Return mIoU of A and of B in percent, and the ends of the 95 % interval of B - A in percentage points.

    A bootstrap sample draws query images, each with all its episodes of all seeds and runs, because episodes of the
    same query image are not independent. In each, mIoU is computed for each run and seed, then averaged. Given are
    ``_sums_by_query`` of the runs of system A, and of system B, all on the same episodes.
    """
    random = np.random.Generator(np.random.PCG64(0))
    most = max(sums.shape[3] for sums in (*firsts, *seconds))  # runs may predict different classes
    tables = [
        np.concatenate([np.pad(x, [(0, 0)] * 3 + [(0, most - x.shape[3]), (0, 0)]) for x in side])
        for side in (firsts, seconds)
    ]
    queries, draws = tables[0].shape[1], []
    for _ in range(0, DRAWS, CHUNK):
        times = random.multinomial(queries, np.full(queries, 1 / queries), size=CHUNK).astype(np.float64)
        draws.append(_miou(times, tables[1]) - _miou(times, tables[0]))
    low, high = np.percentile(np.concatenate(draws), [2.5, 97.5])
    a, b = (float(_miou(np.ones((1, queries)), table)[0]) for table in tables)
    return a, b, float(low), float(high)


def _sums_by_query(episodes: list[dict[str, Any]], output: str) -> np.ndarray:
    """Return intersections, unions and numbers of episodes, (seeds, queries, groups, classes, 3), by query image."""
    rows = [(e.get("seed", 0), e["query"], *way) for e in episodes for way in counts_of(e, output)]
    seed, query, group, class_id, *counts = zip(*rows)
    columns = (np.unique(column, return_inverse=True) for column in (seed, query, class_id))
    (seeds, at_seed), (queries, at_query), (classes, at_class) = columns
    out = np.zeros((len(seeds), len(queries), max(group) + 1, len(classes), 3))
    np.add.at(out, (at_seed, at_query, group, at_class), np.stack([*counts, np.ones(len(rows))], 1))
    return out


def _miou(times_bq: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Return the mIoU, mean over seeds, of B bootstrap samples, (B,), in which queries occur ``times_bq`` often."""
    totals = (times_bq @ sums.reshape(*sums.shape[:2], -1)).reshape(len(sums), len(times_bq), *sums.shape[2:])
    return mean_iou(*np.moveaxis(totals, -1, 0)).mean((0, 2))
