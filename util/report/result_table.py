"""Titles and tables of single results: scores, classes, and the protocols of one checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from util.report.table import Table

HELD = ("miou", "fb_iou")  # scores of every table
SCORES = {
    "miou": "mIoU %",
    "fb_iou": "FB-IoU %",
    "presence_accuracy": "presence accuracy %",
    "presence_auroc": "AUROC %",
}
AVERAGED = "test-time averaging"
MADE_FROM_MASKS = "made from the masks"  # a list_source
WEIGHTS = {"last": "LAST CHECKPOINT", "untrained": "UNTRAINED", "foreign": "WEIGHTS FROM ELSEWHERE"}  # by weights_mark


def score_table(result: dict[str, Any]) -> Table:
    """Return the table of a result: one row per output, each score as mean (and deviation) over seeds."""
    keys = [key for key in SCORES if key in HELD or any(key in scores for scores in result["mean"].values())]
    several = len(result["seeds"]) > 1
    rows = []
    for name, scores in result["mean"].items():
        spread = {key: f" +- {result['deviation'][name][key]:.2f}" if several else "" for key in scores}
        rows.append([name, *(f"{scores[key]:.2f}{spread[key]}" if key in scores else "-" for key in keys)])
    return Table(["output", *(SCORES[key] for key in keys)], rows)


def class_table(result: dict[str, Any]) -> Table:
    """Return the table of a result's novel classes: IoU of each two-channel output, mean over seeds."""
    outputs = [name for name, scores in result["mean"].items() if "fb_iou" in scores]
    rows = []
    for class_id, name in result["novel"].items():
        found = [
            [s[o]["per_class"][class_id] for s in result["per_seed"] if class_id in s[o]["per_class"]] for o in outputs
        ]
        rows.append([name, *(f"{sum(values) / len(values):.2f}" if values else "-" for values in found)])
    return Table(["class, IoU %", *outputs], rows)


def protocol_table(results: list[dict[str, Any]]) -> Table:
    """Return the table of one checkpoint's results by several protocols: what the protocol alone does to a number."""
    rows, first = [], results[0]["mean"]["final"]["miou"]
    for result in results:
        scores, marks = result["mean"]["final"], ", ".join(departures(result))
        name = f"{result['protocol']}, {result['shot']}-shot{f' ({marks})' if marks else ''}"
        cells = [str(result["episodes"]), str(len(result["seeds"])), result["input"], result["scored_on"]]
        values = f"{scores['miou']:.2f}", f"{scores['fb_iou']:.2f}", f"{scores['miou'] - first:+.2f}"
        rows.append([name, *cells, *values])
    return Table(["protocol", "episodes", "seeds", "input", "scored on", "mIoU %", "FB-IoU %", "mIoU - first"], rows)


def title(result: dict[str, Any]) -> str:
    """Return the title of a result; it begins in capitals if the result is not the protocol's full number."""
    ways, replayed = result["protocol_settings"].get("ways", 1), result["replayed"]
    out = f"{protocol_title(result)}, {result['dataset']} fold {result['fold']}, "
    out += f"{ways}-way {result['shot']}-shot" if ways > 1 else f"{result['shot']}-shot"
    out += f", REPLAY of {Path(replayed).name}" if replayed else ""
    out += f", {seeds_in_words(result)}" if result["other_seeds"] else ""
    whole = "" if replayed else f" of {result['protocol_settings']['episodes']}"
    marks = {
        "WEIGHTS OF ANOTHER FOLD": result["fold_mismatch"],
        WEIGHTS.get(result["weights_mark"]): result["weights_mark"] and not result["fold_mismatch"],
        f"TRAINED WITH OTHER SETTINGS ({'; '.join(result['trained_otherwise'][:3])})": result["trained_otherwise"],
        f"QUICK LOOK ({result['episodes']}{whole} episodes)": result["quick_look"],
        f"TEST-TIME AVERAGING ({passes_in_words(result)})": result["averaged"],
    }
    return ": ".join([*(str(mark) for mark, holds in marks.items() if holds), out])


def departures(result: dict[str, Any]) -> list[str]:
    """Return why a result is not the number of its protocol and config; empty if it is."""
    marks = {
        "quick look": result["quick_look"],
        seeds_in_words(result).lower(): result["other_seeds"],
        "replay": result["replayed"],
        "weights of another fold": result["fold_mismatch"],
        AVERAGED: result["averaged"],
    }
    return [
        *(mark for mark, holds in marks.items() if holds),
        *(f"trained with {t}" for t in result["trained_otherwise"]),
    ]


def passes_in_words(result: dict[str, Any]) -> str:
    """Return the test-time averaging of a result and its cost, such as 'flip, 2 passes'; '' without averaging."""
    passes = f"{result['passes']} pass{'es' * (result['passes'] > 1)}"
    return f"{', '.join(result['averaged'])}, {passes}" if result["averaged"] else ""


def seeds_in_words(result: dict[str, Any]) -> str:
    """Return the difference of a result's seeds from the protocol's, such as '1 OF 5 SEEDS'."""
    own, entry = result["seeds"], result["protocol_settings"]["seeds"]
    return f"{len(own)} OF {len(entry)} SEEDS" if set(own) < set(entry) else "OTHER SEEDS THAN THE PROTOCOL'S"


def protocol_title(result: dict[str, Any]) -> str:
    """Return the full name of a result's protocol: with the fold rule and, where there are several, the list."""
    origin = ""
    if result["list_source"] != MADE_FROM_MASKS:
        origin = ", own list" if result["config"].get("data", {}).get("test_fold_list") else ", published list"
    elif result["protocol_settings"].get("query") == "pairs" or result["list_note"]:
        origin = f", pairs by {result['min_pixels']} pixels"
    return f"{result['protocol']} ({result['fold_rule']} folds{'' if result['replayed'] else origin})"
