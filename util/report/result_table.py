"""Titles and tables of single results: scores, classes, and the protocols of one checkpoint."""

from pathlib import Path
from statistics import fmean
from typing import Any

from util.data.draws import OWN
from util.report.schema import BASE, FINAL
from util.report.table import Table

SCORES = {  # the first columns; a further metric's column is named by its key
    "miou": "mIoU %",
    "fb_iou": "FB-IoU %",
    "base": "base %",
    "novel": "novel %",
    "harmonic": "harmonic mean %",
    "base_background": "base with background %",
    "miou_background": "mIoU with background %",
    "total": "all classes and background %",
    "presence_accuracy": "presence accuracy %",
    "presence_auroc": "AUROC %",
    "boundary_iou": "boundary IoU %",
    "hd95": "HD95 px",
    "assd": "ASSD px",
    "cldice": "clDice %",
}
AVERAGED = "beyond the protocol"
DEVIATION = "standard deviation (of a sample, n - 1)"
MADE_FROM_MASKS = "made from the masks"  # a list_source
PUBLISHED_EPISODES, DRAWN_HERE = "published episodes", "drawn here"
WEIGHTS = {"last": "LAST CHECKPOINT", "untrained": "UNTRAINED", "foreign": "WEIGHTS FROM ELSEWHERE"}  # by weights_mark


def score_table(result: dict[str, Any]) -> Table:
    """Return the table of a result: one row per output, each score as mean (and deviation) over seeds.

    A note says which deviation it is.
    """
    there = {key for scores in result["mean"].values() for key in scores}
    keys = [key for key in SCORES if key in there] + sorted(there - SCORES.keys())
    several, rows = len(result["seeds"]) > 1, []
    for name, scores in result["mean"].items():
        spread = {key: f" +- {value:.2f}" * several for key, value in result["deviation"][name].items()}
        rows.append([name, *(f"{scores[key]:.2f}{spread[key]}" if key in scores else "-" for key in keys)])
    notes = [f"+-: {DEVIATION} over {len(result['seeds'])} test seeds."] if several else []
    return Table(["output", *(str(SCORES.get(key, key)) for key in keys)], rows, notes=notes)


def class_table(result: dict[str, Any]) -> Table:
    """Return the table of a result's novel (and base) classes: IoU of each output over them, mean over seeds."""
    outputs = [name for name in result["mean"] if name != BASE]
    found = [class_ious(result, output) for output in outputs]
    rows = [[n, *(f"{of[n]:.2f}" if n in of else "-" for of in found)] for n in class_names(result).values()]
    return Table(["class, IoU %", *outputs], rows)


def class_ious(result: dict[str, Any], output: str) -> dict[str, float]:
    """Return the IoU of an output by the names of the classes with an episode: mean over seeds, in percent."""
    found, names = dict[str, list[float]](), class_names(result)
    for of_seed in result["per_seed"]:
        for class_id, iou in of_seed[output]["per_class"].items():
            found.setdefault(names.get(class_id, class_id), []).append(iou)
    return {name: fmean(ious) for name, ious in found.items()}


def class_names(result: dict[str, Any]) -> dict[str, str]:
    """Return the scored classes of a result by id; of generalised segmentation background, base and novel ones."""
    if "novel" not in result["mean"][FINAL]:
        return result["novel"]
    base = {str(i): name for i, name in enumerate(result["config"]["data"]["classes"], 1)}
    return {"0": "background", **{c: n for c, n in base.items() if c not in result["novel"]}, **result["novel"]}


def protocol_table(results: list[dict[str, Any]]) -> Table:
    """Return the table of one checkpoint's results by several protocols: what the protocol alone does to a number."""
    rows, first = [], results[0]["mean"][FINAL]["miou"]
    for result in results:
        scores, marks = result["mean"][FINAL], ", ".join(departures(result))
        name = f"{result['protocol']}, {result['shot']}-shot{f' ({marks})' if marks else ''}"
        cells = [str(result["episodes"]), str(len(result["seeds"])), result["input"], result["scored_on"]]
        fb_iou = f"{scores['fb_iou']:.2f}" if "fb_iou" in scores else "-"
        rows.append([name, *cells, f"{scores['miou']:.2f}", fb_iou, f"{scores['miou'] - first:+.2f}"])
    return Table(["protocol", "episodes", "seeds", "input", "scored on", "mIoU %", "FB-IoU %", "mIoU - first"], rows)


def title(result: dict[str, Any]) -> str:
    """Return the title of a result; it begins in capitals if the result is not the protocol's full number."""
    ways, elsewhere = result["protocol_settings"].get("ways", 1), result["weights_mark"] and not result["fold_mismatch"]
    marks = [f"{mark.upper()} ({words})" if words else mark.upper() for mark, words in departures(result).items()]
    out = f"{protocol_title(result)}, {result['dataset']} fold {result['fold']}, "
    out += f"{ways}-way {result['shot']}-shot" if ways > 1 else f"{result['shot']}-shot"
    return ": ".join([*([WEIGHTS[result["weights_mark"]]] if elsewhere else []), *marks, out])


def departures(result: dict[str, Any]) -> dict[str, str]:
    """Return why a result is not the number of its protocol and config, each with details; empty if it is."""
    own, entry, replayed = result["seeds"], result["protocol_settings"], result["replayed"]
    whole = "" if replayed else f" of {entry['episodes']}"
    made_in = (result["calibration"] or {}).get("precision")
    other_calibration = made_in not in (None, result["precision"])
    fewer = f"{len(own)} of {len(entry['seeds'])} seeds" if set(own) < set(entry["seeds"]) else ""
    marks = {
        "weights of another fold": (result["fold_mismatch"], ""),
        "trained with other settings": (result["trained_otherwise"], "; ".join(result["trained_otherwise"][:3])),
        "calibrated in another precision": (other_calibration, made_in or ""),
        "quick look": (result["quick_look"], f"{result['episodes']}{whole} episodes"),
        fewer or "other seeds than the protocol's": (result["other_seeds"], ""),
        "replay": (replayed, Path(replayed or "").name),
        AVERAGED: (result["averaged"], passes_in_words(result)),
    }
    return {mark: words for mark, (holds, words) in marks.items() if holds}


def passes_in_words(result: dict[str, Any]) -> str:
    """Return a test's steps beyond the protocol and their cost, such as 'flip, 2 passes'; '' without such steps."""
    passes = f"{result['passes']} pass{'es' * (result['passes'] > 1)}"
    return f"{', '.join(result['averaged'])}, {passes}" if result["averaged"] else ""


def protocol_title(result: dict[str, Any]) -> str:
    """Return the full name of a result's protocol: with the fold rule and, where there are several, list and draw."""
    words = [f"{result['fold_rule']} folds", _list_in_words(result), episodes_in_words(result)]
    return f"{result['protocol']} ({', '.join(filter(None, words))})"


def _list_in_words(result: dict[str, Any]) -> str:
    """Return the origin of the test list; '' where there is only one, or where a manifest replaces the list."""
    if result["list_source"] != MADE_FROM_MASKS:
        return "own list" if result["config"]["data"].get("test_fold_list") else "published list"
    if result["replayed"]:
        return ""
    by_pairs = result["protocol_settings"]["query"] == "pairs" or result["list_note"]
    return f"pairs by {result['min_pixels']} pixels" if by_pairs else ""


def episodes_in_words(result: dict[str, Any]) -> str:
    """Return whether a result is of the published episodes; '' for a protocol that names no published draw."""
    if result["protocol_settings"].get("draw", OWN) == OWN:
        return ""
    if result["draw_note"]:
        return "" if result["replayed"] else DRAWN_HERE
    return PUBLISHED_EPISODES
