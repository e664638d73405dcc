"""Paired difference of the mIoU of results on the same episodes, with a bootstrap interval over query images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from util.data.lists.manifest import read_manifest, ways_of
from util.evaluate.schema import MANIFEST, SCORED_ON, Result, find_results, read_result
from util.evaluate.titles import draw_text
from util.files.errors import UserError
from util.files.table import Table
from util.loop.metrics import FINAL, mean_iou
from util.report.results import counts, stages_text

if TYPE_CHECKING:
    from pandas import DataFrame

SAME_EPISODES = "score both on the same episodes: test.py --manifest FILE, the episodes.jsonl of one of them"
DRAWS, CHUNK = 2000, 100  # number of bootstrap samples, and of those computed at once
NOTES: list[tuple[Callable[[Result], str], str]] = [  # facts of results, and what is said where they differ
    (
        lambda result: f"{result['input_side']} px" if result["input_side"] else "",
        "warning: different image sides ({}): differences are those of the sides too.",
    ),
    (stages_text, "note: trained differently ({}): the difference is that of the trainings too"),
    (lambda result: result["content"][:8], "warning: scored on other photos or masks of the same names ({})"),
]


class Difference(NamedTuple):
    """The mIoU of systems A and B in percent, and the 95 % interval of A - B in percentage points."""

    a: float
    b: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """A - B."""
        return self.a - self.b


class Scored(NamedTuple):
    """A result that is compared."""

    file: Path
    result: Result
    output: str  # whose counts are compared
    label_side: int | None  # of the labels, where they are sized like the input; None: other labels
    episodes: list[tuple]  # seed, query, and class and supports of each way
    sums: np.ndarray  # of ``_sums_by_query``

    @property
    def note(self) -> str:
        """How it was scored, in words."""
        r = self.result
        words = {
            f"{r['protocol']} ({r['fold_rule']} folds)": True,
            f"scored on {SCORED_ON[r['scored_on']]}": True,
            "edges": r.get("edges") and self.output == FINAL,  # which the prediction alone has
            "QUICK LOOK": r["quick_look"],
            f"in {r['precision']}": r["precision"] != "float32",
        }
        return f"({', '.join(word for word, holds in words.items() if holds)})"

    @property
    def words(self) -> str:
        """Its file, and how it was scored."""
        return f"{self.file} {self.note}"


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
    of_a, of_b = _systems_of(runs, output_a, output_b)
    names = _names_of(of_a[0].file, of_b[0].file) or (output_a, output_b)
    scored = list(chain.from_iterable(zip(of_a, of_b)))
    named = list(zip(names * len(of_a), scored))
    _check_episodes(scored)
    minus = " minus ".join(names)
    overall = difference([a.sums for a in of_a], [b.sums for b in of_b])
    out = Table(["mIoU %", *names, minus, "95 % from", "to"], [*_rows_of_pairs(of_a, of_b), _row(which, overall)])
    out.facts = {"first": _files(of_a, len(out.rows)), "second": _files(of_b, len(out.rows))}
    out.notes = [f"{name}: {each.words}" for name, each in named]
    out.notes += _difference_lines(overall, f"{minus} = ", which, of_a)
    out.notes += _differing(named)
    out.notes.append(_verdict(of_a, of_b, overall))
    return out


def _systems_of(runs: Sequence[Path], output_a: str, output_b: str) -> tuple[list[Scored], list[Scored]]:
    """Return the results of A and of B; UserError: as ``compare``, but for their episodes."""
    if len(runs) < 2 or len(runs) % 2:
        raise UserError(f"compare takes pairs MINE BASELINE, not {len(runs)} paths; {runs[-1]} has no partner")
    return [read_scored(run, output_a) for run in runs[::2]], [read_scored(run, output_b) for run in runs[1::2]]


def _rows_of_pairs(of_a: Sequence[Scored], of_b: Sequence[Scored]) -> list[list[str]]:
    """Return the rows of several pairs; none of one, whose row is that of all."""
    if len(of_a) == 1:
        return []
    pairs = enumerate(zip(of_a, of_b), start=1)
    return [_row(f"pair {number}", difference([a.sums], [b.sums])) for number, (a, b) in pairs]


def _files(scored: Sequence[Scored], rows: int) -> list[str]:
    """Return a system's results in words, as a column of so many rows: the last one is of all."""
    return [*(result.words for result in scored), ""][:rows]


def _names_of(file_a: Path, file_b: Path) -> tuple[str, str] | None:
    """Return what differs in the folders of two files, as names: a run, a protocol, or the folder; None of one file."""
    if file_a == file_b:
        return None
    parts_a, parts_b = list(file_a.parent.parts), list(file_b.parent.parts)
    whole = file_a.parent.name, file_b.parent.name
    for end in (0, -1):
        while parts_a and parts_b and parts_a[end] == parts_b[end]:
            del parts_a[end], parts_b[end]
    if not parts_a or not parts_b:
        return whole
    return "/".join(parts_a), "/".join(parts_b)


def _row(name: str, delta: Difference) -> list[str]:
    signed = (f"{value:+.2f}" for value in (delta.value, delta.low, delta.high))
    return [name, f"{delta.a:.2f}", f"{delta.b:.2f}", *signed]


def _check_episodes(scored: Sequence[Scored]) -> None:
    """Refuse (UserError) results on different episodes."""
    first = scored[0]
    for other in scored[1:]:
        if other.episodes == first.episodes:
            continue
        pairs = zip_longest(first.episodes, other.episodes)
        number = next(number for number, (one, another) in enumerate(pairs) if one != another)
        both = f"{_size_of(first)} and {_size_of(other)} differ from number {number} on"
        raise UserError(f"{both}; {SAME_EPISODES}")


def _size_of(scored: Scored) -> str:
    draw = draw_text(scored.result)
    return f"{scored.file} ({len(scored.episodes)} episodes{draw and f', {draw}'})"


def _difference_lines(delta: Difference, minus: str, which: str, of_a: Sequence[Scored]) -> list[str]:
    """Return the lines that say what the difference of all pairs is, and of what."""
    pairs = len(of_a)
    episodes = pairs * len(of_a[0].episodes)
    query_images = of_a[0].sums.shape[1]
    over = f", mean of {pairs} pairs" if pairs > 1 else ""
    lines = [
        f"{minus}{delta.value:+.2f} mIoU points of the {which}{over}, "
        f"95 % interval [{delta.low:+.2f}, {delta.high:+.2f}] over {episodes} paired episodes "
        f"({DRAWS} bootstrap samples of their {query_images} query images, each with all its episodes)"
    ]
    if pairs > 1:
        lines.append("the interval is for these trained networks; the pairs show the spread of training runs")
    return lines


def _differing(named: Sequence[tuple[str, Scored]]) -> list[str]:
    """Return the notes on facts in which results, by name, differ as far as they know them."""
    notes = []
    for fact, note in NOTES:
        known = dict.fromkeys((name, value) for name, scored in named if (value := fact(scored.result)))
        if len({value for _, value in known}) > 1:
            notes.append(note.format("; ".join(f"{name}: {value}" for name, value in known)))
    return notes


def _verdict(of_a: Sequence[Scored], of_b: Sequence[Scored], delta: Difference) -> str:
    """Return whether the interval decides between systems."""
    scored = [*of_a, *of_b]
    label_sides = {each.label_side for each in scored} - {None}
    how = {(each.note, each.result["content"]) for each in scored}
    # two outputs of one result differ by what they are
    of_one_result = all(a.file == b.file for a, b in zip(of_a, of_b))
    if max(len(how), len(label_sides)) > 1 and not of_one_result:
        return "scored differently: the difference is that of the scoring too, no verdict on the systems"
    if delta.low <= 0 <= delta.high:
        return "not significant: the interval contains 0"
    return "significant: the interval excludes 0 (how much trainings vary is not in it)"


def read_scored(path: Path, output: str) -> Scored:
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
    result = read_result(file)
    manifest = read_manifest(file.with_name(MANIFEST))
    return Scored(
        file=file,
        result=result,
        output=output,
        label_side=manifest.header.get("label_side"),
        episodes=[(episode["seed"], episode["query"], ways_of(episode)) for episode in manifest.episodes],
        sums=_sums_by_query(counts(file, output)),
    )


def difference(sums_a: Sequence[np.ndarray], sums_b: Sequence[np.ndarray]) -> Difference:
    """Return the difference of the mIoU of two systems on the same episodes.

    A bootstrap sample draws query images, each with all its episodes of all seeds and runs, because episodes of the
    same query image are not independent. In each, mIoU is computed for each run and seed, then averaged.

    Args:
        sums_a: ``_sums_by_query`` of the runs of system A.
        sums_b: of those of system B.
    """
    random = np.random.Generator(np.random.PCG64(0))
    table_a = np.concatenate(sums_a)
    table_b = np.concatenate(sums_b)
    queries = table_a.shape[1]
    uniform = np.full(queries, 1 / queries)
    draws = []
    for _ in range(0, DRAWS, CHUNK):
        times = random.multinomial(queries, uniform, size=CHUNK).astype(np.float64)
        draws.append(_miou(times, table_a) - _miou(times, table_b))
    low, high = np.percentile(np.concatenate(draws), [2.5, 97.5])
    once = np.ones((1, queries))
    a = _miou(once, table_a).item()
    b = _miou(once, table_b).item()
    return Difference(a, b, float(low), float(high))


def _sums_by_query(counted: DataFrame) -> np.ndarray:
    """Return intersections, unions and numbers of episodes, (seeds, queries, classes, 3), by query image."""
    import pandas

    columns = ["intersection", "union", "episodes"]
    sums = counted.assign(episodes=1).groupby(["seed", "query", "class"])[columns].sum()
    every = pandas.MultiIndex.from_product(sums.index.levels)
    return sums.reindex(every, fill_value=0).to_numpy(float).reshape(*every.levshape, 3)


def _miou(times_bq: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Return the mIoU, mean over seeds, of B bootstrap samples, (B,), in which queries occur ``times_bq`` often."""
    totals = times_bq @ sums.reshape(*sums.shape[:2], -1)
    totals = totals.reshape(len(sums), len(times_bq), *sums.shape[2:])
    intersection, union, episodes = np.moveaxis(totals, -1, 0)
    return mean_iou(intersection, union, episodes).mean(0)
