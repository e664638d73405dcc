"""The episodes beside a result, with the pixels that were counted in each."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from util.data.lists.manifest import counts_of, read_manifest
from util.evaluate.schema import MANIFEST
from util.files.errors import UserError, check_known
from util.files.parallel import grouped
from util.report.row import Row

if TYPE_CHECKING:
    from pandas import DataFrame


def counts(path: Path, output: str) -> DataFrame:
    """Return the counts of a result's episodes, a row for each class of each: seed, number, query, class, pixels.

    UserError: the manifest beside the result is missing or damaged, or lacks the output.
    """
    import pandas

    rows = list[tuple]()
    place = path.with_name(MANIFEST)
    manifest = read_manifest(place)
    for line, episode in zip(manifest.lines, manifest.episodes, strict=True):
        check_known(output, episode.get("outputs", {}), f"{place}:{line}: has no output '{output}'")
        about = episode["seed"], episode.get("number"), episode["query"]
        rows += [(*about, *way) for way in counts_of(episode, output)]
    return pandas.DataFrame(rows, columns=["seed", "number", "query", "class", "intersection", "union"])


def episodes_by_seed(row: Row) -> list[list[dict[str, Any]]]:
    """Return the episodes beside a result as its manifest has them, a list for each of its seeds.

    UserError: the manifest is missing or damaged, or has other seeds than the result.
    """
    wanted = row.result["seeds"]
    by_seed = grouped(read_manifest(row.file.with_name(MANIFEST)).episodes, itemgetter("seed"))
    if sorted(by_seed) != sorted(wanted):
        raise UserError(f"{row.file}: seeds {wanted}, its {MANIFEST} has episodes of {sorted(by_seed)}")
    return [by_seed[seed] for seed in wanted]
