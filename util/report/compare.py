"""Paired difference of the mIoU of results on the same episodes, with an interval over episodes and trainings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from util.data.lists.manifest import read_manifest, ways_of
from util.evaluate.schema import MANIFEST, SCORED_ON, find_results, read_result
from util.evaluate.titles import title
from util.files.errors import UserError
from util.files.table import Table
from util.loop.metrics import FINAL, mean_iou
from util.report.frame import COLUMNS
from util.report.manifests import counts
from util.report.provenance import stages_text
from util.report.row import Row
from util.report.shared_facts import differences, text_of

if TYPE_CHECKING:
    from pandas import DataFrame

SAME_EPISODES = "score both on the same episodes (test.py --manifest FILE, the episodes.jsonl of one), or name others"
MOST_CELLS = 2**24  # of the table of sums: 384 MiB
DRAWS, CHUNK = 2000, 100  # number of bootstrap samples, and of those computed at once
OF_TRAININGS = 10  # draws of the trainings' spread for each, whose tails are long


class Difference(NamedTuple):
    """The mIoU of systems A and B in percent, and the 95 % interval of A - B in percentage points."""

    a: float
    b: float
    low: float
    high: float


@dataclass(frozen=True)
class Compared(Row):
    """A result that is compared."""

    label_side: int | None  # of the labels, where they are sized like the input; None: other labels
    episodes: list[tuple]  # seed, query, and class and supports of each way
    sums: np.ndarray  # of ``_sums_by_query``


# What may differ, by its name: in how systems were scored, and beside that
SCORING: dict[str, Callable[[Compared], Any]] = {
    "protocols": COLUMNS["protocol"],
    "fold rules": COLUMNS["fold_rule"],
    "masks": lambda each: SCORED_ON[each.result["scored_on"]],
    "sides of the masks": lambda each: each.label_side,
    "precisions": COLUMNS["precision"],
    "photos or masks of the same names": COLUMNS["content"],
}
BESIDE: dict[str, Callable[[Compared], Any]] = {
    "image sides": COLUMNS["input_side"],
    "trainings": lambda each: stages_text(each.result),
}
METHOD: dict[str, Callable[[Compared], Any]] = {
    "method": COLUMNS["method"],
    "encoder": COLUMNS["encoder"],
    "settings": lambda each: each.settings,
    "vectors": lambda each: each.result.get("vectors"),
    "code": lambda each: text_of(each.result["code"]),
}
NETWORKS: dict[str, Callable[[Compared], Any]] = {
    "training seeds": COLUMNS["training_seed"],
    "weights": COLUMNS["weights"],
}


def compare(*runs: Path, output: str = FINAL) -> Table:
    """Return a table of the paired difference of results; its last note is the verdict.

    Args:
        runs: result files or folders A, B, and for further training runs of both systems A, B again; then the mean over
            all pairs is compared.
        output: name of the output of both, or ``<A's output>:<B's output>``.

    Raises:
        UserError: the runs have different episodes, lack that output, hold no counts, or do not come in pairs.
    """
    output_a, _, output_b = output.partition(":")
    output_b = output_b or output_a
    which = f"{output_a} output" if output_a == output_b else f"outputs ({output_a}, {output_b})"
    if len(runs) < 2 or len(runs) % 2:
        raise UserError(f"compare takes pairs MINE BASELINE, not {len(runs)} paths; {runs[-1]} has no partner")
    of_a = [read_scored(run, output_a) for run in runs[::2]]
    of_b = [read_scored(run, output_b) for run in runs[1::2]]
    scored = list(chain.from_iterable(zip(of_a, of_b)))
    check_episodes(scored)
    overall = difference(of_a, of_b)
    names = [f"A: {of_a[0].name}", f"B: {of_b[0].name}"]
    several = zip(of_a, of_b) if len(of_a) > 1 else ()
    rows = [_row(f"pair {n}", difference([a], [b])) for n, (a, b) in enumerate(several, start=1)]
    notes = [
        *(f"{letter}: {each.file}: {title(each.result)}" for letter, each in zip("AB" * len(of_a), scored)),
        _difference_line(overall, which, of_a),
        *_verdict(scored, overall, output_a == output_b),
    ]
    return Table(["mIoU %", *names, "A - B", "95 % from", "to"], [*rows, _row(which, overall)], notes=notes)


def _row(name: str, delta: Difference) -> list[str]:
    signed = (f"{value:+.2f}" for value in (delta.a - delta.b, delta.low, delta.high))
    return [name, f"{delta.a:.2f}", f"{delta.b:.2f}", *signed]


def check_episodes(scored: Sequence[Compared]) -> None:
    """Refuse (UserError) results on different episodes."""
    first = scored[0]
    for other in scored[1:]:
        pairs = zip_longest(first.episodes, other.episodes)
        number = next((number for number, (one, another) in enumerate(pairs) if one != another), None)
        if number is not None:
            both = (f"{each.file} ({title(each.result)})" for each in (first, other))
            raise UserError(f"{' and '.join(both)} differ from number {number} on; {SAME_EPISODES}")


def _difference_line(delta: Difference, which: str, of_a: Sequence[Compared]) -> str:
    """Return the line that says what the difference of all pairs is, and of what."""
    pairs = len(of_a)
    episodes = pairs * len(of_a[0].episodes)
    of_pairs, further = (f", mean of {pairs} pairs", "; and over trainings, by Student's t") if pairs > 1 else ("", "")
    return (
        f"A - B = {delta.a - delta.b:+.2f} mIoU points of the {which}{of_pairs}, "
        f"95 % interval [{delta.low:+.2f}, {delta.high:+.2f}] over {episodes} paired episodes ({DRAWS} bootstrap "
        f"samples of their {of_a[0].sums.shape[1]} query images, each with all its episodes{further})"
    )


def _verdict(scored: Sequence[Compared], delta: Difference, of_one_output: bool) -> list[str]:
    """Return in what else the results differ, and what the interval decides, if they were scored alike.

    Between networks of one method, settings and code it decides nothing about methods.
    """
    lines = [f"note: different {fact}: {values}" for fact, values in differences(scored, BESIDE).items()]
    networks = differences(scored, NETWORKS) if of_one_output else {}
    method = differences(scored, METHOD)
    if networks and not method.keys() - {"code"}:
        lines.append(_of_one_method(scored, networks, alone=not lines and not method))
    is_one_method = bool(networks) and not method
    if scoring := differences(scored, SCORING):
        shown = ", ".join(f"{fact}: {values}" for fact, values in scoring.items())
        return [*lines, f"no verdict on the systems, which were scored differently ({shown})"]
    return [*lines, _decided(delta, is_one_method, len(scored))]


def _of_one_method(scored: Sequence[Compared], networks: Mapping[str, str], alone: bool) -> str:
    """Return the line on networks of one method with the same settings: in what they differ, and in what code."""
    codes = [code for code in (each.result["code"] for each in scored) if code]
    names = dict.fromkeys(chain.from_iterable(codes))
    changed = ", ".join(name for name in names if len({code.get(name) for code in codes}) > 1)
    name, values = next(iter(networks.items()))
    differ = f"{name}{' alone' if alone else ''} ({values}){f' and in code ({changed})' if changed else ''}"
    return f"note: one method with the same settings; the runs differ in {differ}"


def _decided(delta: Difference, is_one_method: bool, results: int) -> str:
    """Return in words whether the interval of a difference decides."""
    if delta.low == delta.high == 0:
        return "no difference in any sample: are A and B one result, or a copy of it?"
    if delta.low <= 0 <= delta.high:
        return "not significant: the interval contains 0"
    if is_one_method:
        return "no difference between methods: the interval excludes 0 for networks of one method alone"
    if results == 2:
        return "significant for these networks, the interval excludes 0; how much trainings vary is not in it"
    return "significant: the interval excludes 0"


def read_scored(path: Path, output: str) -> Compared:
    """Return what a result is compared by.

    Args:
        path: a result file, or a folder that holds one result.
        output: name of the output whose counts are compared.

    Raises:
        UserError: no result is there, several are, or it has no counts of the output.
    """
    file, *others = find_results([path])
    if others:
        raise UserError(f"{path}: holds {len(others) + 1} results; name one of them, such as {file.parent}")
    manifest = read_manifest(file.with_name(MANIFEST))
    return Compared(
        file=file,
        result=read_result(file),
        label_side=manifest.header.get("label_side"),
        episodes=[(episode["seed"], episode["query"], ways_of(episode)) for episode in manifest.episodes],
        sums=_sums_by_query(counts(file, output), file.with_name(MANIFEST)),
    )


def difference(system_a: Sequence[Compared], system_b: Sequence[Compared]) -> Difference:
    """Return the difference of the mIoU of two systems on the same episodes, each with one or several trainings.

    A bootstrap sample draws query images, each with all its episodes of all seeds and trainings, because episodes of
    the same query image are not independent. In each, mIoU is computed for each training and seed, then averaged.
    Trainings of a system add Student's t times the standard error of their means; they are too few to be drawn.

    Args:
        system_a: the results of A, one of each training.
        system_b: those of B.
    """
    random = np.random.Generator(np.random.PCG64(0))
    table_a = np.stack([each.sums for each in system_a])
    table_b = np.stack([each.sums for each in system_b])
    queries = table_a.shape[2]
    uniform = np.full(queries, 1 / queries)
    chunks = []
    for _ in range(0, DRAWS, CHUNK):
        times = random.multinomial(queries, uniform, size=CHUNK).astype(np.float64)
        chunks.append(_mious(times, table_a).mean(0) - _mious(times, table_b).mean(0))
    once = np.ones((1, queries))
    of_a = _mious(once, table_a)[:, 0]  # of each training
    of_b = _mious(once, table_b)[:, 0]
    draws = np.concatenate(chunks)
    error, freedom = _of_trainings(of_a, of_b)
    if freedom:
        draws = np.repeat(draws, OF_TRAININGS)
        draws += error * random.standard_t(freedom, size=len(draws))
    low, high = np.percentile(draws, [2.5, 97.5])
    return Difference(float(of_a.mean()), float(of_b.mean()), float(low), float(high))


def _of_trainings(*systems: np.ndarray) -> tuple[float, float]:
    """Return the standard error of a difference of means over trainings, and its degrees of freedom, as Welch has them.

    A system of one training tells nothing of others; 0 and 0: all are of one.
    """
    several = [mious for mious in systems if len(mious) > 1]
    squares = [mious.var(ddof=1) / len(mious) for mious in several]
    if not sum(squares):
        return 0.0, 0.0
    freedom = sum(squares) ** 2 / sum(square**2 / (len(mious) - 1) for square, mious in zip(squares, several))
    return math.sqrt(sum(squares)), freedom


def _sums_by_query(counted: DataFrame, place: Path) -> np.ndarray:
    """Return intersections, unions and numbers of episodes, (seeds, queries, classes, 3), by query image.

    UserError: there are too many of these for the memory; it names ``place``.
    """
    import pandas

    columns = ["intersection", "union", "episodes"]
    sums = counted.assign(episodes=1).groupby(["seed", "query", "class"])[columns].sum()
    if math.prod(sums.index.levshape) > MOST_CELLS:
        raise UserError(f"{place}: {sums.index.levshape} seeds, queries and classes are more than {MOST_CELLS} sums")
    every = pandas.MultiIndex.from_product(sums.index.levels)
    return sums.reindex(every, fill_value=0).to_numpy(float).reshape(*every.levshape, 3)


def _mious(times_bq: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Return the mIoU of T trainings, mean over seeds, in B samples that hold queries ``times_bq`` times, (T, B)."""
    totals = times_bq @ sums.reshape(*sums.shape[:3], -1)
    totals = totals.reshape(*sums.shape[:2], len(times_bq), *sums.shape[3:])
    intersection, union, episodes = np.moveaxis(totals, -1, 0)
    return mean_iou(intersection, union, episodes).mean(1)
