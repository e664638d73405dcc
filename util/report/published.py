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
ALL = "all"  # a value of ``--published``
MEAN = "mean"  # the place of a mean over folds or data sets


@cache
def published_entries() -> dict[str, Any]:
    """Return the content of ``published.yaml``."""
    return read_yaml(PUBLISHED.read_text(encoding="utf-8"))


def published(
    dataset: str, shots: list[int], fold_rule: str, papers: str | None = None, protocol: str | None = None
) -> list[dict[str, Any]]:
    """Return published numbers, an entry each; rows whose folds differ are left out.

    Args:
        dataset: that the numbers are of.
        shots: numbers of shots.
        fold_rule: of the folds that rows are compared on.
        papers: whose rows are shown, with commas, or ``none``; None, ``all``: all.
        protocol: that the numbers were made by; None: any.

    Raises:
        UserError: a paper is not known.
    """
    content = published_entries()
    shown = _papers_shown(papers, [paper.lower() for paper in content["papers"]])
    numbers: list[dict[str, Any]] = []
    for entry in (*content["rows"], *content["foundation"]):
        has_these_folds = entry.get("fold_rule", fold_rule) in (None, fold_rule)
        is_by_this = protocol in (None, entry["protocol"])
        if entry["dataset"] == dataset and entry["paper"].lower() in shown and has_these_folds and is_by_this:
            numbers += _numbers(entry, shots)
    return numbers


def _papers_shown(asked: str | None, known: list[str]) -> set[str]:
    """Return the papers that ``--published`` names, in lower case; UserError if one is not known."""
    if asked in (None, ALL):
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
    """Yield the numbers of an entry: of folds, and their mean."""
    known = [shot for shot in shots if shot in entry["miou"]]
    row = _row(entry, known)
    for shot in known:
        *folds, mean = entry["miou"][shot]
        cells = [(f"fold {fold}", MIOU, value) for fold, value in enumerate(folds)]
        cells.append((MEAN, MIOU, mean))
        if FB_IOU in entry:
            cells.append((MEAN, FB_IOU, entry[FB_IOU][shot]))
        for place, score, value in cells:
            yield {**row, "shot": shot, "place": place, "score": score, "value": value}
