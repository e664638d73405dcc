"""Tables and titles of one result as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


def text_table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table with aligned columns; the first is left-aligned, the others right-aligned."""
    header, *rows = [[on_one_line(text).replace("|", r"\|") for text in row] for row in (header, *rows)]
    widths = [max(len(r[i]) for r in [header, *rows]) for i in range(len(header))]

    def line(cells: list[str]) -> str:
        aligned = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "| " + " | ".join(aligned) + " |"

    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([line(header), rule, *(line(r) for r in rows)])


def on_one_line(text: str) -> str:
    """Return a text with spaces in place of line breaks and other control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


def score_table(result: dict[str, Any]) -> str:
    """Return the table of a result: one line per output, each score as mean (and deviation) over seeds."""
    shown = {key: name for key, name in SCORES.items() if key in HELD or any(key in s for s in result["mean"].values())}
    rows = []
    for name, scores in result["mean"].items():
        cells = [name]
        for key in shown:
            spread = result["deviation"][name].get(key, 0.0)
            several = f" +- {spread:.2f}" if len(result["seeds"]) > 1 else ""
            cells.append(f"{scores[key]:.2f}{several}" if key in scores else "-")
        rows.append(cells)
    return text_table(["output", *shown.values()], rows)


def class_table(result: dict[str, Any]) -> str:
    """Return the table of a result's novel classes: IoU of each two-channel output, mean over seeds."""
    outputs = [name for name, scores in result["mean"].items() if "fb_iou" in scores]
    rows = []
    for class_id, name in result["novel"].items():
        values = [[s[o]["per_class"].get(class_id) for s in result["per_seed"]] for o in outputs]
        known = [[v for v in vs if v is not None] for vs in values]
        rows.append([name, *(f"{sum(vs) / len(vs):.2f}" if vs else "-" for vs in known)])
    return text_table(["class, IoU %", *outputs], rows)


def title(result: dict[str, Any]) -> str:
    """Return the title of a result; it begins in capitals if the result is not the protocol's full number."""
    ways = result["protocol_settings"].get("ways", 1)
    task = f"{ways}-way {result['shot']}-shot" if ways > 1 else f"{result['shot']}-shot"
    out = f"{protocol_title(result)}, {result['dataset']} fold {result['fold']}, {task}"
    if result["replayed"]:
        out += f", REPLAY of {Path(result['replayed']).name}"
    if result.get("other_seeds"):
        out += f", {seeds_in_words(result)}"
    if result.get("averaged"):
        out = f"TEST-TIME AVERAGING ({passes_in_words(result)}): {out}"
    if result["quick_look"]:
        whole = "" if result["replayed"] else f" of {result['protocol_settings']['episodes']}"
        out = f"QUICK LOOK ({result['episodes']}{whole} episodes): {out}"
    if result["trained_otherwise"]:
        out = f"TRAINED WITH OTHER SETTINGS ({'; '.join(result['trained_otherwise'][:3])}): {out}"
    if result.get("weights_mark") and not result["fold_mismatch"]:
        out = f"{WEIGHTS[result['weights_mark']]}: {out}"
    if result["fold_mismatch"]:
        out = f"WEIGHTS OF ANOTHER FOLD: {out}"
    return out


def departures(result: dict[str, Any]) -> list[str]:
    """Return why a result is not the number of its protocol and config; empty if it is."""
    marks = {
        "quick look": result["quick_look"],
        seeds_in_words(result).lower(): result.get("other_seeds"),
        "replay": result["replayed"],
        "weights of another fold": result["fold_mismatch"],
        AVERAGED: result.get("averaged"),
    }
    trained = [f"trained with {text}" for text in result["trained_otherwise"]]
    return [*(mark for mark, holds in marks.items() if holds), *trained]


def protocol_table(results: list[dict[str, Any]]) -> str:
    """Return the table of one checkpoint's results by several protocols: what the protocol alone does to a number."""
    rows, first = [], results[0]["mean"]["final"]["miou"]
    for result in results:
        scores, marks = result["mean"]["final"], ", ".join(departures(result))
        name = f"{result['protocol']}, {result['shot']}-shot{f' ({marks})' if marks else ''}"
        cells = [str(result["episodes"]), str(len(result["seeds"])), result["input"], result["scored_on"]]
        rows.append(
            [name, *cells, f"{scores['miou']:.2f}", f"{scores['fb_iou']:.2f}", f"{scores['miou'] - first:+.2f}"]
        )
    header = ["protocol", "episodes", "seeds", "input", "scored on", "mIoU %", "FB-IoU %", "mIoU - first"]
    return text_table(header, rows)


def passes_in_words(result: dict[str, Any]) -> str:
    """Return the test-time averaging of a result and its cost, such as 'flip, 2 passes'; '' without averaging."""
    if not result.get("averaged"):
        return ""
    return f"{', '.join(result['averaged'])}, {result['passes']} pass{'es' * (result['passes'] > 1)}"


def seeds_in_words(result: dict[str, Any]) -> str:
    """Return the difference of a result's seeds from the protocol's, such as '1 OF 5 SEEDS'."""
    own, entry = result["seeds"], result["protocol_settings"]["seeds"]
    return f"{len(own)} OF {len(entry)} SEEDS" if set(own) < set(entry) else "OTHER SEEDS THAN THE PROTOCOL'S"


def protocol_title(result: dict[str, Any]) -> str:
    """Return the full name of a result's protocol, which includes the fold rule and the origin of the list."""
    origin = list_in_words(result)
    return f"{protocol_name(result)[:-1]}, {origin})" if origin else protocol_name(result)


def protocol_name(result: dict[str, Any]) -> str:
    """Return the name of a result's protocol with the fold rule, such as 'bam (contiguous folds)'."""
    return f"{result['protocol']} ({result['fold_rule']} folds)"


def list_in_words(result: dict[str, Any]) -> str:
    """Return where the list of a result comes from, such as 'published list'; '' if no protocol has another."""
    if result["replayed"]:
        return ""
    if result["list_source"] != MADE_FROM_MASKS:
        return "own list" if result["config"].get("data", {}).get("test_fold_list") else "published list"
    by_rule = result["protocol_settings"].get("query") == "pairs" or result.get("list_note")
    return f"pairs by {result['min_pixels']} pixels" if by_rule else ""
