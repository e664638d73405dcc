"""Paired difference of the mIoU of results on the same episodes, with a bootstrap interval over query images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from util.data.lists.manifest import counts_of, read_manifest, ways_of
from util.evaluate.schema import MANIFEST, SCORED_ON, Result, check_output, find_results, read_result
from util.evaluate.titles import draw_text
from util.files.errors import UserError
from util.files.table import Table
from util.loop.metrics import FINAL, mean_iou
from util.report.results import stages_text

SAME_EPISODES = "score both on the same episodes: test.py --manifest FILE, the episodes.jsonl of one of them"
DRAWS, CHUNK = 2000, 100  # number of bootstrap samples, and of those computed at once


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
    pairs = _pairs_of(runs, output_a, output_b)
    scored_a, scored_b = zip(*pairs)
    scored = list(chain.from_iterable(pairs))
    _check_episodes(scored)
    name_a, name_b = _names_of(scored_a[0].file, scored_b[0].file) or (output_a, output_b)
    minus = f"{name_a} minus {name_b}"
    which = f"{output_a} output" if output_a == output_b else f"outputs ({output_a}, {output_b})"
    overall = difference([a.sums for a in scored_a], [b.sums for b in scored_b])
    out = Table(["mIoU %", name_a, name_b, minus, "95 % from", "to"], _rows(pairs, which, overall))
    out.facts = {"first": _files(scored_a, len(out.rows)), "second": _files(scored_b, len(out.rows))}
    named = list(zip((name_a, name_b) * len(pairs), scored))
    out.notes = [f"{name}: {result.words}" for name, result in named]
    out.notes += _difference_lines(overall, f"{minus} = ", which, pairs)
    out.notes += _side_note(named)
    out.notes += _training_note(named)
    out.notes += _judged(scored_a, scored_b, overall)
    return out


def _pairs_of(runs: Sequence[Path], output_a: str, output_b: str) -> list[tuple[Scored, Scored]]:
    """Return the scores of A and B, pair by pair; UserError: as ``compare``, but for their episodes."""
    if len(runs) < 2 or len(runs) % 2:
        raise UserError(f"compare takes pairs MINE BASELINE, not {len(runs)} paths; {runs[-1]} has no partner")
    return [(read_scored(a, output_a), read_scored(b, output_b)) for a, b in zip(runs[::2], runs[1::2])]


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


def _rows(pairs: list[tuple[Scored, Scored]], which: str, overall: Difference) -> list[list[str]]:
    """Return the rows of several pairs, and that of all."""
    rows = []
    if len(pairs) > 1:
        for number, (a, b) in enumerate(pairs, start=1):
            rows.append(_row(f"pair {number}", difference([a.sums], [b.sums])))
    return [*rows, _row(which, overall)]


def _row(name: str, delta: Difference) -> list[str]:
    signed = (f"{value:+.2f}" for value in (delta.value, delta.low, delta.high))
    return [name, f"{delta.a:.2f}", f"{delta.b:.2f}", *signed]


def _files(scored: Sequence[Scored], rows: int) -> list[str]:
    """Return a system's results in words, as a column of so many rows: the last one is of all."""
    return [*(result.words for result in scored), ""][:rows]


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
        words = [f"{r['protocol']} ({r['fold_rule']} folds)", f"scored on {SCORED_ON[r['scored_on']]}"]
        if r.get("edges") and self.output == FINAL:  # which the prediction alone has
            words.append("edges")
        if r["quick_look"]:
            words.append("QUICK LOOK")
        if r["precision"] != "float32":
            words.append(f"in {r['precision']}")
        return f"({', '.join(words)})"

    @property
    def words(self) -> str:
        """Its file, and how it was scored."""
        return f"{self.file} {self.note}"

    @property
    def size(self) -> str:
        """Its file, and how many episodes it has."""
        draw = draw_text(self.result)
        return f"{self.file} ({len(self.episodes)} episodes{draw and f', {draw}'})"


def _check_episodes(scored: Sequence[Scored]) -> None:
    """Refuse (UserError) results on different episodes."""
    first = scored[0]
    for other in scored[1:]:
        if other.episodes == first.episodes:
            continue
        pairs = zip_longest(first.episodes, other.episodes)
        number = next(number for number, (one, another) in enumerate(pairs) if one != another)
        both = f"{first.size} and {other.size} differ from number {number} on"
        raise UserError(f"{both}; {SAME_EPISODES}")


def _difference_lines(delta: Difference, minus: str, which: str, pairs: list[tuple[Scored, Scored]]) -> list[str]:
    """Return the lines that say what the difference of all pairs is, and of what."""
    first, _ = pairs[0]
    episodes = len(pairs) * len(first.episodes)
    query_images = first.sums.shape[1]
    over = f", mean of {len(pairs)} pairs" if len(pairs) > 1 else ""
    lines = [
        f"{minus}{delta.value:+.2f} mIoU points of the {which}{over}, "
        f"95 % interval [{delta.low:+.2f}, {delta.high:+.2f}] over {episodes} paired episodes "
        f"({DRAWS} bootstrap samples of their {query_images} query images, each with all its episodes)"
    ]
    if len(pairs) > 1:
        lines.append("the interval is for these trained networks; the pairs show the spread of training runs")
    return lines


def _side_note(named: Sequence[tuple[str, Scored]]) -> list[str]:
    """Return a line that results, by name, are of different image sides; none if they are of one."""
    sides = {(name, side): side for name, scored in named if (side := scored.result["input_side"]) is not None}
    if len({*sides.values()}) < 2:
        return []
    listed = ", ".join(f"{name} {side} px" for name, side in sides)
    return [f"warning: different image sides ({listed}): differences are those of the sides too."]


def _training_note(named: Sequence[tuple[str, Scored]]) -> list[str]:
    """Return a line that results, by name, were trained for different numbers of steps or batches; none if not."""
    trained = dict.fromkeys((name, stages) for name, scored in named if (stages := stages_text(scored.result)))
    if len({stages for _, stages in trained}) < 2:
        return []
    listed = "; ".join(f"{name}: {stages}" for name, stages in trained)
    return [f"note: trained differently ({listed}): the difference is that of the trainings too"]


def _judged(scored_a: Sequence[Scored], scored_b: Sequence[Scored], delta: Difference) -> list[str]:
    """Return a line on photos that are others, if there are any, and whether the interval decides between systems."""
    scored = [*scored_a, *scored_b]
    notes = {each.note for each in scored}
    label_sides = {each.label_side for each in scored} - {None}
    contents = list(dict.fromkeys(each.result["content"][:8] for each in scored))
    lines = []
    if len(contents) > 1:
        lines.append(f"warning: scored on other photos or masks of the same names ({', '.join(contents)})")
    scored_alike = max(len(notes), len(label_sides), len(contents)) == 1
    # two outputs of one result differ by what they are
    of_one_result = all(a.file == b.file for a, b in zip(scored_a, scored_b))
    if not (scored_alike or of_one_result):
        return [*lines, "scored differently: the difference is that of the scoring too, no verdict on the systems"]
    if delta.low <= 0 <= delta.high:
        return [*lines, "not significant: the interval contains 0"]
    return [*lines, "significant: the interval excludes 0 (how much trainings vary is not in it)"]


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
    for line, episode in zip(manifest.lines, manifest.episodes, strict=True):
        check_output(f"{file.with_name(MANIFEST)}:{line}", output, episode.get("outputs", {}))
    return Scored(
        file=file,
        result=result,
        output=output,
        label_side=manifest.header.get("label_side"),
        episodes=[(episode["seed"], episode["query"], ways_of(episode)) for episode in manifest.episodes],
        sums=_sums_by_query(manifest.episodes, output),
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


def _sums_by_query(episodes: list[dict[str, Any]], output: str) -> np.ndarray:
    """Return intersections, unions and numbers of episodes, (seeds, queries, classes, 3), by query image."""
    rows = [(e["seed"], e["query"], *way) for e in episodes for way in counts_of(e, output)]
    seed, query, class_id, *counts = zip(*rows)
    seeds, at_seed = np.unique(seed, return_inverse=True)
    queries, at_query = np.unique(query, return_inverse=True)
    classes, at_class = np.unique(class_id, return_inverse=True)
    out = np.zeros((len(seeds), len(queries), len(classes), 3))
    np.add.at(out, (at_seed, at_query, at_class), np.stack([*counts, np.ones(len(rows))], 1))
    return out


def _miou(times_bq: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Return the mIoU, mean over seeds, of B bootstrap samples, (B,), in which queries occur ``times_bq`` often."""
    totals = times_bq @ sums.reshape(*sums.shape[:2], -1)
    totals = totals.reshape(len(sums), len(times_bq), *sums.shape[2:])
    intersection, union, episodes = np.moveaxis(totals, -1, 0)
    return mean_iou(intersection, union, episodes).mean(0)
