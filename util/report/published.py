"""The published numbers of the paper's tables, from ``published.yaml``, in the form of those that are measured here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from util.evaluate.schema import NOT_STATED
from util.evaluate.titles import track_text
from util.files.errors import check_known
from util.files.table import Marked
from util.files.yaml_text import read_yaml
from util.loop.metrics import MIOU
from util.report.frame import FB_IOU, SECONDS

PUBLISHED = Path(__file__).with_name("published.yaml")
ALL = "all"  # a value of ``--published``
MEAN = "mean"  # the place of a mean over folds or data sets
MEASURED, DOUBTFUL = "*", "?"  # marks of cells


@dataclass(frozen=True)
class Number:
    """A number of a method with some shots at a place (a fold, a data set or ``MEAN``), measured here or published."""

    method: str  # name of the row
    protocol: str  # its full name
    source: str  # '': measured here
    track: str  # of the row, in words
    shot: int
    place: str
    score: str
    value: float
    parameters: str = "-"
    spread: float = math.nan  # standard deviation; NaN: of one number
    over: str = ""  # over which seeds the spread is
    doubts: tuple[str, ...] = ()  # why it is not the protocol's number

    @property
    def column(self) -> tuple[int, str, str]:
        """Its column: shots, place and score."""
        return self.shot, self.place, self.score

    @property
    def cell(self) -> Marked:
        """Its text; a measured one ends with its spread, and a doubtful one with that mark."""
        spread = "" if math.isnan(self.spread) else f" +- {self.spread:.1f}"
        marks = (spread + MEASURED if not self.source else "") + (DOUBTFUL if self.doubts else "")
        return Marked(format(self.value, ".3g" if self.score == SECONDS else ".1f"), marks)


def published(
    dataset: str, shots: list[int], fold_rule: str, papers: str | None = None, protocol: str | None = None
) -> list[Number]:
    """Return published numbers; rows whose folds differ are left out.

    Args:
        dataset: that the numbers are of.
        shots: numbers of shots.
        fold_rule: of the folds that rows are compared on.
        papers: whose rows are shown, with commas, or ``none``; None, ``all``: all.
        protocol: that the numbers were made by; None: any.

    Raises:
        UserError: a paper is not known.
    """
    content = read_yaml(PUBLISHED.read_text(encoding="utf-8"))
    shown = _papers_shown(papers, [paper.lower() for paper in content["papers"]])
    numbers = list[Number]()
    for entry in (*content["rows"], *content["foundation"]):
        has_these_folds = entry.get("fold_rule", fold_rule) in (None, fold_rule)
        is_by_this = protocol in (None, entry["protocol"])
        if entry["dataset"] == dataset and entry["paper"].lower() in shown and has_these_folds and is_by_this:
            numbers += _numbers(content, entry, shots)
    return numbers


def _papers_shown(asked: str | None, known: list[str]) -> set[str]:
    """Return the papers that ``--published`` names, in lower case; UserError if one is not known."""
    if asked in (None, ALL):
        return set(known)
    papers = {word.strip() for word in asked.lower().split(",")} - {"", "none"}
    for paper in sorted(papers):
        check_known(paper, known, f"--published {paper}: no such paper")
    return papers


def _numbers(content: dict[str, Any], entry: dict[str, Any], shots: list[int]) -> Iterator[Number]:
    """Yield the numbers of an entry of ``PUBLISHED``, whose ``content`` this is: of folds, and their mean."""
    paper, encoder = entry["paper"], entry["encoder"]
    protocol = entry["protocol"] or NOT_STATED
    if "fold_rule" in entry:
        protocol += f" ({entry['fold_rule'] or 'unstated'} folds)"
    method = ", ".join(filter(None, [f"{paper} {encoder}", entry.get("variant")]))
    source = "; ".join(filter(None, [content["papers"][paper], entry.get("quoted_by")]))
    track: Any = {**content["tracks"][paper], "encoder_data": content["encoder_data"].get(encoder)}
    known = [shot for shot in shots if shot in entry["miou"]]
    text = track_text({shot: track | {"train_shot": track["train_shot"].get(shot)} for shot in known})
    for shot in known:
        *folds, mean = entry["miou"][shot]
        cells = [(f"fold {fold}", MIOU, value) for fold, value in enumerate(folds)]
        cells.append((MEAN, MIOU, mean))
        if FB_IOU in entry:
            cells.append((MEAN, FB_IOU, entry[FB_IOU][shot]))
        for cell in cells:
            yield Number(method, protocol, source, text, shot, *cell)
