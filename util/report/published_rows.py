"""The published rows of the paper's tables, from ``published.yaml``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from util.evaluate.schema import NOT_STATED
from util.files.errors import UserError, nearest
from util.files.yaml_text import read_yaml
from util.loop.metrics import MIOU
from util.report.rows import MEAN, Cell, Column, Row

PUBLISHED = Path(__file__).with_name("published.yaml")


@cache
def published_entries() -> dict[str, Any]:
    """Return the content of ``published.yaml``."""
    return read_yaml(PUBLISHED.read_text(encoding="utf-8"))


def published(dataset: str, shots: list[int], fold_rule: str, papers: str | None = None) -> tuple[list[Row], list[str]]:
    """Return published rows, and notes on rows that are left out because their folds differ.

    Args:
        dataset: that the rows are of.
        shots: numbers of shots; rows with none of them are left out.
        fold_rule: of the folds that rows are compared on.
        papers: whose rows are shown, with commas, or ``none``; None: all.

    Raises:
        UserError: a paper is not known.
    """
    content = published_entries()
    shown = _papers_shown(papers, [paper.lower() for paper in content["papers"]])
    rows: list[Row] = []
    left_out: list[str] = []
    for entry in (*content["rows"], *content["foundation"]):
        if entry["dataset"] != dataset or entry["paper"].lower() not in shown:
            continue
        row = _row(entry, shots)
        rule = entry.get("fold_rule", fold_rule)
        if not row.cells:
            continue
        if rule in (None, fold_rule):
            rows.append(row)
        else:
            protocol = entry["protocol"] or NOT_STATED
            left_out.append(f"left out: {row.method} by {protocol}, published on other folds ({rule}).")
    return rows, left_out


def _papers_shown(asked: str | None, known: list[str]) -> set[str]:
    """Return the papers that ``--published`` names, in lower case; UserError if one is not known."""
    if asked is None:
        return set(known)
    papers = {word.strip() for word in asked.lower().split(",")} - {"", "none"}
    if unknown := sorted(papers.difference(known)):
        raise UserError(f"--published {unknown[0]}: no such paper{nearest(unknown[0], known)}")
    return papers


def _row(entry: dict[str, Any], shots: list[int]) -> Row:
    """Return the row of an entry of ``PUBLISHED`` with its cells of some numbers of shots."""
    content = published_entries()
    paper, encoder = entry["paper"], entry["encoder"]
    protocol = entry["protocol"] or NOT_STATED
    if "fold_rule" in entry:
        protocol += f" ({entry['fold_rule'] or 'unstated'} folds)"
    name = ", ".join(filter(None, [f"{paper} {encoder}", entry.get("variant")]))
    row = Row(name, protocol, encoder, source=content["papers"][paper])
    track: Any = {**content["tracks"][paper], "encoder_data": content["encoder_data"].get(encoder)}
    for shot in shots:
        if shot in entry["miou"]:
            row.tracks[shot] = track | {"train_shot": track["train_shot"].get(shot)}
            row.cells |= {column: Cell(value) for column, value in _numbers(entry, shot)}
    return row


def _numbers(entry: dict[str, Any], shot: int) -> Iterator[tuple[Column, float]]:
    """Yield the numbers of an entry of ``PUBLISHED``, of folds, their mean and classes."""
    *folds, mean = entry["miou"][shot]
    for fold, value in enumerate(folds):
        yield Column(shot, fold, MIOU), value
    yield Column(shot, MEAN, MIOU), mean
    if "fb_iou" in entry:
        yield Column(shot, MEAN, "fb_iou"), entry["fb_iou"][shot]
    for fold, classes in enumerate(entry.get("classes", {}).get(shot, ())):
        for name, iou in classes.items():
            yield Column(shot, fold, MIOU, name), float(iou)
