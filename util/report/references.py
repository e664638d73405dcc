"""What references do: statistics of the IoUs of each query over the references with which it was segmented."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from util.data.lists.manifest import counts_of, read_manifest
from util.evaluate.schema import MANIFEST, Result, check_output, read_results
from util.files.errors import UserError
from util.files.table import Table
from util.loop.metrics import FINAL
from util.report.one_table import check_one_table
from util.report.published import published_entries
from util.report.results import how_made, row_name

if TYPE_CHECKING:
    from pandas import DataFrame

REFERENCES = ["mean IoU %", "deviation", "variation %", "worst tenth", "best tenth"]  # columns
REFERENCES_NOTE = (
    "Over the references of a query, then mean over queries: deviation (of a sample, n - 1) and its ratio to the mean "
    "IoU (variation; queries that no reference segments have none), and the mean IoU with the worst and the best tenth "
    "of the references. Published variations are of the authors' queries and references."
)


def reference_table(paths: list[Path], output: str = FINAL, protocols: Sequence[str] = ()) -> Table:
    """Return the table of what references do: rows of each result in all and of each class, then published variations.

    Arguments as of ``result_table``. UserError: there is no result of a protocol with references, or no such output;
    or results that share no table.
    """
    by_file = read_results(paths, protocols)
    found = {path: r for path, r in by_file.items() if r["protocol_settings"].get("references", 1) > 1}
    if not found:
        fix = "score a run by one first: python test.py CONFIG --protocol references"
        raise UserError(f"{', '.join(map(str, paths))}: no result of a protocol with references; {fix}")
    check_one_table(found)
    out = Table(["method", "shots", "class", "queries", "references", *REFERENCES], [], notes=[REFERENCES_NOTE])
    for path, result in sorted(found.items(), key=lambda item: (row_name(item[1]), item[1]["shot"])):
        check_output(path, output, result["mean"])
        for row in _references(path, result, output).fillna(0.0).to_dict("records"):
            counts = str(result["shot"]), row["class"], str(row["queries"]), str(row["references"])
            out.rows.append([row_name(result), *counts, *(f"{row[name]:.1f}" for name in REFERENCES)])
        out.notes.append(how_made(path, result, output))
    for dataset in sorted({result["dataset"] for result in found.values()}):
        for paper, variation in published_entries()["references"].get(dataset, {}).items():
            out.rows.append([f"{paper} (published)", "1", "all", "-", "50", "-", "-", str(variation), "-", "-"])
    return out


def _references(path: Path, result: Result, output: str) -> DataFrame:
    """Return what a result of a protocol with references says of them: a row for all classes ('all') and for each.

    ``REFERENCES`` are statistics of a query's IoUs over its references, then the mean over queries; queries that a
    quick look did not score with all references are left out.
    """
    import pandas

    number = result["protocol_settings"]["references"]
    rows = list[tuple]()
    for episode in read_manifest(path.with_name(MANIFEST)).episodes:
        [(class_id, intersection, union)] = counts_of(episode, output)
        query = episode["seed"], episode["number"] // number
        rows.append((class_id, query, 100 * intersection / max(union, 1)))
    ious = pandas.DataFrame(rows, columns=["class", "query", "iou"])
    of_queries = ious.groupby(["class", "query"])["iou"].agg(["count", list])
    whole = of_queries[of_queries["count"] == number]["list"]
    statistics = pandas.DataFrame([_statistics(each) for each in whole], index=whole.index, columns=REFERENCES)
    groups = [("all", statistics)]
    groups += [(result["novel"][str(class_id)], part) for class_id, part in statistics.groupby("class")]
    summaries = [{"class": name, "queries": len(part), **part.mean()} for name, part in groups if len(part)]
    return pandas.DataFrame(summaries).assign(references=number)


def _statistics(ious: list[float]) -> list[float | None]:
    """Return the ``REFERENCES`` of the IoUs in percent of one query; a query that none segments has no variation."""
    import numpy as np

    ordered = np.sort(ious)
    tenth = max(1, round(0.1 * len(ordered)))
    mean, deviation = ordered.mean(), ordered.std(ddof=1)
    variation = 100 * deviation / mean if mean > 0 else None
    return [mean, deviation, variation, ordered[:tenth].mean(), ordered[-tenth:].mean()]
