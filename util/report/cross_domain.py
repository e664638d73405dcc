"""The table of a cross-domain benchmark: one column for each data set of the tests, and their mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from util.errors import UserError
from util.report.paper_table import published_rows
from util.report.schema import read_result
from util.report.scores import FINAL
from util.report.table import departures
from util.report.table_formats import FORMATS, MEASURED_MARK, QUICK_MARK, Row, track_notes
from util.report.track import track_of

BENCHMARK = "crossdomain"  # `dataset` of published rows


def cross_domain_table(paths: Sequence[Path], form: str = "markdown") -> str:
    """Return the table of results on several data sets, as Markdown, LaTeX or CSV; a mean needs all of them.

    Args:
        paths: result files.

    Raises:
        UserError: a result cannot be read, or two are of one method, data set and number of shots.
    """
    results = {path: read_result(path) for path in paths}
    sets = list(dict.fromkeys(r["dataset"] for r in results.values()))
    shots = sorted({r["shot"] for r in results.values()})
    rows: dict[str, Row] = {}
    for path, result in results.items():
        method = f"{result['method']} {result['encoder']}".strip()
        row = rows.setdefault(method, Row(method, result["protocol"], "measured", measured=True))
        cell = result["shot"], result["dataset"]
        if cell in row.cells:
            raise UserError(f"{path}: another result of {method} on {cell[1]}, {cell[0]}-shot; name only one")
        row.tracks[result["shot"]] = track_of(result)
        row.cells[cell] = result["mean"][FINAL]["miou"]
        if reason := ", ".join(departures(result)):
            row.quick |= {cell: reason, (cell[0], "mean"): reason}
    for row in rows.values():
        for shot in shots:
            values = [row.cells[shot, name] for name in sets if (shot, name) in row.cells]
            if len(values) == len(sets):
                row.cells[shot, "mean"] = sum(values) / len(values)
    published, _ = published_rows(BENCHMARK, shots, "")
    notes = [f"{MEASURED_MARK} measured here, {FINAL} output; other numbers are quoted from the numbered source."]
    why = dict.fromkeys(why for row in rows.values() for why in row.quick.values())
    if why:
        notes.append(f"{QUICK_MARK} ({', '.join(why)}) not to be quoted.")
    notes += track_notes([*published, *rows.values()])
    notes += [f"[{i}] {source}." for i, source in enumerate(dict.fromkeys(r.source for r in published), 1)]
    for path, r in results.items():
        notes.append(
            f"{MEASURED_MARK} {r['method']} on {r['dataset']}, {r['shot']}-shot: {r['list_images']} masks, "
            f"{r['episodes']} episodes, seeds {', '.join(map(str, r['seeds']))}; {r['input']}; list {r['list'][:8]}, "
            f"weights {r['weights'][:8]}, {r['date'][:10]}: {path}"
        )
    columns = [(shot, column) for shot in shots for column in (*sets, "mean")]
    return FORMATS[form]([*published, *rows.values()], columns, notes)
