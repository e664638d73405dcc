"""The influence of references: statistics of the IoUs of each query over the references with which it was segmented."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from util.evaluate.schema import Result, read_results
from util.files.errors import UserError
from util.files.table import Table
from util.loop.metrics import FINAL
from util.report.one_table import check_one_table
from util.report.published import published_entries
from util.report.results import counts, facts_of, how_made

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
        raise UserError(
            f"{', '.join(map(str, paths))}: no result of a protocol with references",
            fix="score a run by one first: python test.py CONFIG --protocol references",
        )
    facts = facts_of(found)
    check_one_table(facts)
    out = Table(["method", "shots", "class", "queries", "references", *REFERENCES], [], notes=[REFERENCES_NOTE])
    for file, row, shot in facts.sort_values(["row", "shot"], kind="stable")[["row", "shot"]].itertuples():
        path = Path(file)
        for name, queries, references, *means in _references(path, found[path], output):
            counted = str(shot), name, str(queries), str(references)
            out.rows.append([row, *counted, *(f"{mean:.1f}" for mean in means)])
        out.notes.append(how_made(path, found[path], output))
    for dataset in sorted({*facts["dataset"]}):
        for paper, variation in published_entries()["references"].get(dataset, {}).items():
            out.rows.append([f"{paper} (published)", "1", "all", "-", "50", "-", "-", str(variation), "-", "-"])
    return out


def _references(path: Path, result: Result, output: str) -> list[tuple]:
    """Return what a result of a protocol with references says of them: for all classes ('all') and for each.

    That is the name, the numbers of queries and of references, and the means over queries of ``REFERENCES``.
    Queries that a quick look did not score with all references are left out.
    """
    number = result["protocol_settings"]["references"]
    counted = counts(path, output)
    counted["iou"] = 100 * counted["intersection"] / counted["union"].clip(lower=1)
    sizes = counted.groupby(["class", "seed", counted["number"] // number])["iou"].transform("size")
    whole = counted[sizes == number].sort_values(["class", "seed", "number"])
    statistics = _statistics(whole["iou"].to_numpy().reshape(-1, number))
    classes = whole["class"].to_numpy()[::number]
    groups = [("all", statistics)]
    groups += [(result["novel"][str(class_id)], statistics[classes == class_id]) for class_id in np.unique(classes)]
    return [(name, len(part), number, *part.mean().fillna(0.0)) for name, part in groups if len(part)]


def _statistics(ious_qr: np.ndarray) -> DataFrame:
    """Return the ``REFERENCES`` of each query's IoUs in percent; a query that none segments has no variation."""
    import pandas

    ordered = np.sort(ious_qr)
    tenth = max(1, round(0.1 * ordered.shape[1]))
    mean = ordered.mean(1)
    deviation = ordered.std(1, ddof=1)
    variation = 100 * deviation / np.where(mean > 0, mean, np.nan)
    columns = mean, deviation, variation, ordered[:, :tenth].mean(1), ordered[:, -tenth:].mean(1)
    return pandas.DataFrame(dict(zip(REFERENCES, columns, strict=True)))
