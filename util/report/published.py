"""The published numbers of the paper's tables, from ``published.yaml``, in the form of those that are measured here."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from util.evaluate.schema import NOT_STATED
from util.evaluate.titles import track_text
from util.files.errors import check_known
from util.files.yaml_text import read_yaml
from util.loop.metrics import MIOU
from util.report.results import FB_IOU

PUBLISHED = Path(__file__).with_name("published.yaml")
MEAN = "mean"  # the place of a mean over folds or data sets
CELL = ("place", "score", "value")  # columns of a number


def fold_place(fold: object) -> str:
    """Return the place of a fold."""
    return f"fold {fold}"


@cache
def published_entries() -> dict[str, Any]:
    """Return the content of ``published.yaml``."""
    return read_yaml(PUBLISHED.read_text(encoding="utf-8"))


def published(
    dataset: str, shots: list[int], fold_rule: str, papers: str | None = None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return published numbers, an entry each, and notes on rows that are left out because their folds differ.

    Args:
        dataset: that the numbers are of.
        shots: numbers of shots.
        fold_rule: of the folds that rows are compared on.
        papers: whose rows are shown, with commas, or ``none``; None: all.

    Raises:
        UserError: a paper is not known.
    """
    content = published_entries()
    shown = _papers_shown(papers, [paper.lower() for paper in content["papers"]])
    numbers: list[dict[str, Any]] = []
    left_out: list[str] = []
    for entry in (*content["rows"], *content["foundation"]):
        known = [shot for shot in shots if shot in entry["miou"]]
        is_shown = entry["dataset"] == dataset and entry["paper"].lower() in shown
        if not (is_shown and known):
            continue
        row = _row(entry, known)
        rule = entry.get("fold_rule", fold_rule)
        if rule in (None, fold_rule):
            numbers += [row | number for number in _numbers(entry, known)]
        else:
            protocol = entry["protocol"] or NOT_STATED
            left_out.append(f"left out: {row['method']} by {protocol}, published on other folds ({rule}).")
    return numbers, left_out


def _papers_shown(asked: str | None, known: list[str]) -> set[str]:
    """Return the papers that ``--published`` names, in lower case; UserError if one is not known."""
    if asked is None:
        return set(known)
    papers = {word.strip() for word in asked.lower().split(",")} - {"", "none"}
    for paper in sorted(papers):
        check_known(paper, known, f"--published {paper}: no such paper")
    return papers


def _row(entry: dict[str, Any], shots: list[int]) -> dict[str, str]:
    """Return what the numbers of an entry of ``PUBLISHED`` share."""
    content = published_entries()
    paper, encoder = entry["paper"], entry["encoder"]
    protocol = entry["protocol"] or NOT_STATED
    if "fold_rule" in entry:
        protocol += f" ({entry['fold_rule'] or 'unstated'} folds)"
    track: Any = {**content["tracks"][paper], "encoder_data": content["encoder_data"].get(encoder)}
    return {
        "method": ", ".join(filter(None, [f"{paper} {encoder}", entry.get("variant")])),
        "protocol": protocol,
        "encoder": encoder,
        "source": "; ".join(filter(None, [content["papers"][paper], entry.get("quoted_by")])),
        "track": track_text({shot: track | {"train_shot": track["train_shot"].get(shot)} for shot in shots}),
    }


def _numbers(entry: dict[str, Any], shots: list[int]) -> Iterator[dict[str, Any]]:
    """Yield shot, place, score and value of the numbers of an entry: of folds, and their mean."""
    for shot in shots:
        *folds, mean = entry["miou"][shot]
        cells = [(fold_place(fold), MIOU, value) for fold, value in enumerate(folds)]
        cells.append((MEAN, MIOU, mean))
        if FB_IOU in entry:
            cells.append((MEAN, FB_IOU, entry[FB_IOU][shot]))
        for cell in cells:
            yield {"shot": shot, **dict(zip(CELL, cell, strict=True))}
