"""The paper's tables from result files: folds, mean and FB-IoU beside published rows, and the IoU of each class."""

from collections import defaultdict
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from util.config.settings import EDGES
from util.errors import UserError, nearest
from util.report.result_table import DEVIATION, DRAWN_HERE, SCORES, class_names, protocol_title
from util.report.rows import (
    Column,
    Result,
    Row,
    cell_of,
    check_mixture,
    measured_rows,
    published_rows,
    row_name,
    trained_precision,
)
from util.report.schema import (
    BASE,
    FINAL,
    NETWORK,
    NOT_STATED,
    SMALLER_IS_BETTER,
    find_results,
    over_seeds,
    read_result,
)
from util.report.table import Table

MEASURED, DOUBTFUL = "*", "?"  # marks of cells
CROSS_DOMAIN = {"fss1000", "deepglobe", "isic", "chestxray"}  # whose mean the published rows of the benchmark are


def table(
    paths: list[Path],
    output: str = FINAL,
    protocol: str | None = None,
    across: bool = False,
    published: str | None = None,
) -> Table:
    """Return the table of all results below some paths; a column without a number is left out.

    Args:
        across: columns are data sets, as in the cross-domain benchmark, and not folds of one.
        published: papers whose rows are shown, with commas, or ``none``; default all.

    UserError: there are no results, or their protocols, data sets or settings differ, so that they cannot share a
    column.
    """
    results, notes = _chosen(paths, output, protocol, across)
    first, by = next(iter(results.values())), "dataset" if across else "fold"
    shots = sorted({r["shot"] for r in results.values()})
    places = list(dict.fromkeys(r[by] for r in results.values())) if across else list(range(first["folds"]))
    quoted_from = first["dataset"] if not across else "crossdomain" if {*places} == CROSS_DOMAIN else ""
    further = sorted({key for r in results.values() for key in r["mean"][output]} - {"miou", "fb_iou"})
    whole, present = "novel" in first["mean"][FINAL], sorted({r[by] for r in results.values()})
    scores = [] if across else [key for key in SCORES if key in further] if whole else ["fb_iou", *further]
    of_one = [(*present, key) for key in scores] if len(present) < min(2, len(places)) else []
    if whole:  # base, novel and their mean of every fold that is there
        of_one = of_one or [(fold, key) for fold in present for key in ("base", "novel")]
    shown = present if whole else places
    columns = [(shot, c) for shot in shots for c in (*shown, *of_one, "mean", *scores, "seconds")]
    of_folds = first["fold_rule"], first["folds"] if whole else None
    quoted, omitted = published_rows(quoted_from, shots, *of_folds, published)
    rows = [*quoted, *measured_rows(results, output, places, by)]
    out = _as_table(rows, [column for column in columns if any(column in row.cells for row in rows)])
    out.notes = [
        f"{MEASURED} measured here, {output} output; other numbers are quoted from the numbered source.",
        *out.notes,
        *([] if across else _side_warning(results)),
        *(f"{MEASURED} {_note(path, r, output)}" for path, r in results.items()),
        *omitted,
        *notes,
        *([] if quoted_from else [f"omitted: published means, which are of {', '.join(sorted(CROSS_DOMAIN))}."]),
    ]
    return out


def class_table(
    paths: list[Path], output: str = FINAL, protocol: str | None = None, published: str | None = None
) -> Table:
    """Return the IoU of each class: rows by fold, a column for each method and shots, also of published runs by class.

    Arguments and errors as of ``table``.
    """
    if output == BASE:
        raise UserError(f"--output {BASE} --per-class: this output has no novel class; leave out one of them")
    results, elsewhere = _chosen(paths, output, protocol, across=False)
    first = next(iter(results.values()))
    shots = sorted({r["shot"] for r in results.values()})
    whole = first["folds"] if "novel" in first["mean"][FINAL] else None
    quoted, _ = published_rows(first["dataset"], shots, first["fold_rule"], whole, published)
    by_class = [row for row in quoted if any(isinstance(place, tuple) for _, place in row.cells)]
    rows = [*by_class, *measured_rows(results, output, list(range(first["folds"])), "fold")]
    letters, notes = _explained(rows)
    notes = [f"IoU % by {protocol_title(first)}, {output} output, mean over seeds; mean: mIoU.", *notes]
    notes += [f"{row.method}: {row.protocol}, quoted from {row.source}." for row in by_class]
    notes += _side_warning(results)
    out = Table(["fold", "class"], [], ["", ""])
    columns = sorted({(shot, i) for i, row in enumerate(rows) for shot, _ in row.cells})
    for shot, i in columns:
        doubted = any(cell.doubts for (own, _), cell in rows[i].cells.items() if own == shot)
        out.header.append(rows[i].method + letters[rows[i].track] + DOUBTFUL * doubted)
        out.groups.append(f"{shot}-shot")
    for fold in sorted({r["fold"] for r in results.values()}):
        out.ruled |= {len(out.rows)} - {0}
        classes = dict.fromkeys(n for r in results.values() if r["fold"] == fold for n in class_names(r).values())
        for name, place in [*((name, (fold, name)) for name in classes), ("mean", fold)]:
            best = {(i, shot) for shot, _ in columns for i in _best(rows, (shot, place))}
            out.best |= {(len(out.rows), j) for j, (shot, i) in enumerate(columns, 2) if (i, shot) in best}
            out.rows.append([str(fold), name, *(rows[i].text((shot, place)) for shot, i in columns)])
    out.facts = {"notes": [" ".join(notes)] * len(out.rows)}
    out.notes = [*notes, *(_note(path, r, output) for path, r in results.items()), *elsewhere]
    return out


def _chosen(paths: list[Path], output: str, protocol: str | None, across: bool) -> tuple[dict[Path, Result], list[str]]:
    """Return the results of a table, after checking that they can share it, and notes on those of another fold.

    Of several results of one cell the whole ones stand for it: no quick looks, no other seeds.
    """
    found = {path: read_result(path) for path in find_results(paths)}
    results = {p: r for p, r in found.items() if not r["replayed"] and protocol in (None, r["protocol"])}
    of_cells = defaultdict[tuple, list[tuple[tuple[bool, ...], Path]]](list)
    for path, r in results.items():
        rank = r["quick_look"], r["other_seeds"], output != FINAL and EDGES in r["averaged"]
        if output != FINAL:
            r["averaged"] = [words for words in r["averaged"] if words != EDGES]  # which the prediction alone has
            for scores in (r["mean"], r["deviation"], *r["per_seed"]):  # without edges it is the network's
                scores.setdefault(NETWORK, scores[FINAL])
        if not r["fold_mismatch"]:
            of_cells[cell_of(r)].append((rank, path))
    elsewhere = [path for path, r in results.items() if r["fold_mismatch"]]
    best = sorted(path for ranked in of_cells.values() for rank, path in ranked if rank == min(ranked)[0])
    if not best:
        known = {r["protocol"] for r in found.values()}
        wanted, hint = (f" of protocol {protocol}", nearest(protocol, known)) if protocol else ("", "")
        omitted = "(replayed manifests and weights of another fold are omitted)"
        raise UserError(f"{', '.join(map(str, paths))}: no result to show{wanted} {omitted}{hint}")
    results = {path: results[path] for path in best}
    check_mixture(results, across, "name fewer runs, or choose with --protocol")
    for path, r in results.items():
        if output not in r["mean"]:
            raise UserError(f"{path}: output '{output}' is unknown{nearest(output, r['mean'])}")
    return results, [f"omitted: {path}, scored with weights of another fold." for path in elsewhere]


def _as_table(rows: list[Row], columns: list[Column]) -> Table:
    """Return the rows as text, with marks, the notes that explain them, and the same in columns of CSV."""
    letters, notes = _explained(rows)
    sources = list(dict.fromkeys(row.source for row in rows if row.source))
    leading = ["method", "protocol", "parameters M (learnt)"]
    groups = [*[""] * len(leading), *(f"{shot}-shot" for shot, _ in columns)]
    out = Table([*leading, *(_heading(place) for _, place in columns)], [], groups)
    facts = defaultdict[str, list[str]](list)
    for i, row in enumerate(rows):
        out.rows.append([row.method, row.protocol, row.parameters, *map(row.text, columns)])
        out.marks[i, 0] = (f" [{sources.index(row.source) + 1}]" if row.source else "") + letters[row.track]
        spread, why = [], ", ".join(row.doubts)
        for j, (name, column) in enumerate(zip(out.headings()[len(leading) :], columns), len(leading)):
            if row.source or column not in row.cells:
                continue
            _, deviation, doubts = row.cells[column]
            out.marks[i, j] = ("" if deviation is None else f" +- {deviation:.1f}") + MEASURED + DOUBTFUL * bool(doubts)
            spread += [] if deviation is None else [f"{name} {deviation:.2f}"]
        facts["track"].append(row.track)
        facts["origin"].append("quoted" if row.source else f"measured ({why})" if why else "measured")
        facts["source"].append(row.source or "")
        facts["standard deviation"].append("; ".join(spread))
        facts["over"].append("; ".join(f"{shot}-shot: {seeds}" for shot, seeds in row.seeds.items()))
    of_seeds = dict.fromkeys(filter(None, facts["over"]))
    notes += [f"+-: {DEVIATION} over {seeds}." for seeds in of_seeds]
    out.facts = dict(list(facts.items())[: 5 if of_seeds else 3])
    out.best = {(i, j) for j, column in enumerate(columns, len(leading)) for i in _best(rows, column)}
    out.ruled = {sum(row.source is not None for row in rows)} - {0}
    out.notes = [*notes, *(f"[{number}] {source}." for number, source in enumerate(sources, 1))]
    return out


def _side_warning(results: dict[Path, Result]) -> list[str]:
    """Return a note that rows are of different image sides; none if they are of one."""
    sides = {row_name(r): r["input_side"] for r in results.values() if r["input_side"] is not None}
    if len({*sides.values()}) < 2:
        return []
    words = ", ".join(f"{name} {side} px" for name, side in sides.items())
    return [f"warning: different image sides ({words}): differences of these rows are those of the sides too."]


def _heading(place: Any) -> str:
    if isinstance(place, tuple):
        return f"fold {place[0]} {_heading(place[1])}"
    names = SCORES | {"seconds": "s / episode"}
    return f"fold {place}" if isinstance(place, int) else names.get(place, place).removesuffix(" %")


def _explained(rows: list[Row]) -> tuple[dict[str, str], list[str]]:
    """Return the mark of each track, '' if there is one, and the notes that explain doubtful cells and tracks."""
    names = (first + last for first in ("", *ascii_lowercase) for last in ascii_lowercase)
    tracks = dict.fromkeys(row.track for row in rows)
    marks = {track: f" ({name})" if len(tracks) > 1 else "" for track, name in zip(tracks, names)}
    notes = [f"{mark.strip() or 'all'}: {track}." for track, mark in marks.items()]
    if doubts := dict.fromkeys(why for row in rows for why in row.doubts):
        notes.insert(0, f"{DOUBTFUL} ({', '.join(doubts)}) not to be quoted as the protocol's number of this method.")
    return marks, notes


def _best(rows: list[Row], column: Column) -> list[int]:
    """Return the rows of a column's best cells, the largest or, of some scores, the smallest.

    They are the best among at least two of one protocol, encoder and track, on the same episodes; others are not
    comparable.
    """
    key = column[1][1] if isinstance(column[1], tuple) else column[1]
    best = min if key in SMALLER_IS_BETTER else max
    groups = defaultdict[tuple, list[tuple[float, int]]](list)
    for i, row in enumerate(rows):
        protocol = row.protocol.partition(" (")[0], DRAWN_HERE in row.protocol
        if column in row.cells and protocol[0] != NOT_STATED:
            groups[protocol, row.encoder, row.track, row.cells[column].doubts].append((float(row.text(column)), i))
    return [i for found in groups.values() if len(found) > 1 for value, i in found if value == best(found)[0]]


def _note(path: Path, result: Result, output: str) -> str:
    """Return the line that says how a measured number was made."""
    r, seeds = result, ", ".join(map(str, result["seeds"]))
    if len(r["seeds"]) > 1:
        spread = over_seeds(r["per_seed"])["deviation"][output]["miou"]  # results before November 2026 hold another
        seeds += f", {DEVIATION} over them {spread:.2f}"
    what = f"{row_name(r)}, {r['shot']}-shot, {r['dataset']} fold {r['fold']}: {r['episodes']} episodes, seeds {seeds}"
    trained = trained_precision(r)
    computed = f"trained in {trained}, tested in {r['precision']}" if trained else f"tested in {r['precision']}"
    made = f"list {r['list'][:8]} of {r['list_images']}, weights {r['weights'][:8]}, {r['date'][:10]}, {r['device']}"
    return f"{what}; {r['input']}; {computed}; {made}: {path}"
