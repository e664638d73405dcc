"""Tables as pivots of the frame of results: of single results, and a row for each result."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from util.evaluate.schema import Result, check_output, read_results
from util.evaluate.titles import classes_in_no_mean, title, track_text
from util.files.table import Table
from util.loop.metrics import FINAL, MIOU
from util.report.results import DEVIATION, FB_IOU, facts_of, frame_of

if TYPE_CHECKING:
    from pandas import DataFrame

RESULT_COLUMNS = [
    *("method", "encoder", "dataset", "fold", "shot", "protocol", "draw", "mark", "precision", "output"),
    *("miou", "fb_iou", "episodes", "seeds", "weights", "device", "date", "commit", "run"),
]
SHOWN = ("method", MIOU, FB_IOU)  # whether rows differ in it or not
IN_WORDS = {"fold": "fold {}", "shot": "{}-shot", "draw": "draw {}", "output": "output {}"} | {
    "episodes": "{} episodes",
    "seeds": "seeds {}",
    "commit": "commit {}",
}
WIDTH = 100  # characters of a line above a table


def pivot(cells: DataFrame, lead: DataFrame) -> Table:
    """Return the table of cells beside leading columns.

    Cells have the positions of their ``line`` and ``column``, a column's ``group`` and ``heading``, and the ``cell``;
    those without a position are left out.
    """
    import pandas

    wide = cells.pivot(index="line", columns=["column", "group", "heading"], values="cell")
    shown = wide.dropna(axis="columns", how="all").reindex(lead.index).sort_index(axis="columns").fillna("-")
    rows = pandas.concat([lead, shown], axis="columns").values.tolist()
    leading = lead.shape[1]
    out = Table([*lead], rows, groups=[""] * leading, leading=leading)
    for _, group, heading in shown.columns:
        out.groups.append(group)
        out.header.append(heading)
    return out


def positions(order: Iterable[tuple], keys: DataFrame) -> list[int | None]:
    """Return the positions of keys in an order; None of those that are not in it."""
    places = {key: number for number, key in enumerate(order)}
    return [places.get(key) for key in keys.itertuples(index=False, name=None)]


def summary(by_file: dict[Path, Result], form: str = "markdown") -> str:
    """Return the tables of some results, in one of ``util.files.table.FORMATS``, with their conditions in words."""
    texts = list[str]()
    for path, result in by_file.items():
        conditions = f"{title(result)}, list {result['list_source']}, in {result['precision']}"
        scores = frame_of({path: result})
        tables = f"{score_table(result, scores):{form}}", "", f"{class_table(result, scores):{form}}"
        track = track_text({result["shot"]: result["track"]})
        texts.append("\n".join([conditions, track, *tables, *classes_in_no_mean(result), ""]))
    return "\n".join(texts)


def means_of_seeds(scores: DataFrame) -> DataFrame:
    """Return mean and deviation over seeds of each output, class and score, in their order, with its column's heading.

    The text of the mean has the deviation if there are several seeds.
    """
    keys = ["output", "class", "score", "title", "unit"]
    out = scores.groupby(keys, sort=False)["value"].agg(["mean", "std"]).reset_index()
    spread = out["std"].map(" +- {:.2f}".format, na_action="ignore").fillna("")
    heading = (out["title"] + " " + out["unit"]).str.strip()
    return out.assign(group="", heading=heading, text=out["mean"].map("{:.2f}".format), spread=spread)


def score_table(result: Result, scores: DataFrame) -> Table:
    """Return the table of a result: a row for each output, each score as mean (and deviation) over seeds."""
    import pandas

    cells = means_of_seeds(scores[scores["class"] == ""])
    line, outputs = cells["output"].factorize()
    column, _ = cells["score"].factorize()
    cells = cells.assign(line=line, column=column, cell=cells["text"] + cells["spread"])
    out = pivot(cells, pandas.DataFrame({"output": outputs}))
    seeds = len(result["seeds"])
    if seeds > 1:
        images = f"the same {result['list_images']} images, not over others"
        out.notes.append(f"+-: {DEVIATION} over {seeds} test seeds, of {images}.")
    return out


def class_table(result: Result, scores: DataFrame) -> Table:
    """Return the table of a result's novel classes: IoU and further metrics of each output, over seeds."""
    import pandas

    names = [*result["novel"].values()]
    cells = means_of_seeds(scores[scores["class"] != ""])
    order = product(scores["score"].unique(), result["mean"])
    is_iou = cells["score"] == MIOU
    cells = cells.assign(
        line=cells["class"].map(names.index),
        column=positions(order, cells[["score", "output"]]),
        heading=cells["output"].where(is_iou, cells["output"] + ", " + cells["heading"]),
        cell=cells["text"],
    )
    return pivot(cells, pandas.DataFrame({"class, IoU %": names}))


def result_table(paths: list[Path], output: str = FINAL, protocols: Sequence[str] = ()) -> Table:
    """Return a table with a row for each result below some paths, with the scores of one output in percent.

    Args:
        paths: result files, or folders.
        output: name of the output.
        protocols: only results of these; none: all.

    Raises:
        UserError: there is no result, none of a protocol, or no such output.
    """
    by_file = read_results(paths, protocols)
    for path, result in by_file.items():
        check_output(path, output, result["mean"])
    scores = frame_of(by_file)
    overall = scores[(scores["output"] == output) & (scores["class"] == "")]
    means = overall.pivot_table(index="file", columns="score", values="value")
    rows = facts_of(by_file).join(means).assign(output=output).reindex(columns=RESULT_COLUMNS)
    rows = rows.sort_values(RESULT_COLUMNS).replace("", None)
    for name in rows.select_dtypes("float"):
        rows[name] = rows[name].map("{:.2f}".format, na_action="ignore")
    return Table(RESULT_COLUMNS, rows.astype(object).fillna("").astype(str).values.tolist())


def fitted(table: Table) -> Table:
    """Return a ``result_table`` of the columns in which its rows differ, and scores; above it, what all rows share.

    Digests of weights, which nobody reads, are left out.
    """
    columns = dict(zip(table.header, zip(*table.rows), strict=True))
    del columns["weights"]
    shown = [name for name, cells in columns.items() if name in SHOWN or len({*cells}) > 1]
    shared = [name for name, cells in columns.items() if name not in shown and cells[0]]
    words = [IN_WORDS.get(name, "{}").format(columns[name][0]) for name in shared]
    rows = [list(row) for row in zip(*(columns[name] for name in shown), strict=True)]
    return Table(shown, rows, above=textwrap.wrap(", ".join(words), WIDTH))
