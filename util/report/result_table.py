"""Titles and tables of single results: scores, classes, and the protocols of one checkpoint."""

from pathlib import Path
from statistics import fmean
from typing import Any

from util.data.draws import OWN
from util.report.schema import BASE, FINAL, SCORED_ON, scores_base_classes
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
    present = {key for scores in result["mean"].values() for key in scores}
    keys = [key for key in SCORES if key in present] + sorted(present - SCORES.keys())
    out = Table(["output", *(str(SCORES.get(key, key)) for key in keys)], [])
    for output in result["mean"]:
        out.rows.append([output, *(_score_text(result, output, key) for key in keys)])
    seeds = len(result["seeds"])
    if seeds > 1:
        images = f"the same {result['list_images']} images, not over others"
        out.notes.append(f"+-: {DEVIATION} over {seeds} test seeds, of {images}.")
    return out


def _score_text(result: dict[str, Any], output: str, key: str) -> str:
    """Return a score, with its deviation if there are several seeds; a dash where the output has none."""
    scores = result["mean"][output]
    if key not in scores:
        return "-"
    deviation = result["deviation"][output][key]
    spread = f" +- {deviation:.2f}" if len(result["seeds"]) > 1 else ""
    return f"{scores[key]:.2f}{spread}"


def class_table(result: dict[str, Any]) -> Table:
    """Return the table of a result's novel (and base) classes: IoU of each output over them, mean over seeds."""
    columns = {name: class_ious(result, name) for name in result["mean"] if name != BASE}
    out = Table(["class, IoU %", *columns], [])
    for name in class_names(result).values():
        texts = (f"{ious[name]:.2f}" if name in ious else "-" for ious in columns.values())
        out.rows.append([name, *texts])
    return out


def class_ious(result: dict[str, Any], output: str) -> dict[str, float]:
    """Return the IoU of an output by the names of the classes with an episode: mean over seeds, in percent."""
    names = class_names(result)
    ious_by_name: dict[str, list[float]] = {}
    for scores in result["per_seed"]:
        for class_id, iou in scores[output]["per_class"].items():
            ious_by_name.setdefault(names.get(class_id, class_id), []).append(iou)
    return {name: fmean(ious) for name, ious in ious_by_name.items()}


def class_names(result: dict[str, Any]) -> dict[str, str]:
    """Return the scored classes of a result by id: the novel ones, or all and the background where these count too."""
    if not scores_base_classes(result):
        return result["novel"]
    names = {"0": "background"}
    for class_id, name in enumerate(result["config"]["data"]["classes"], start=1):
        if str(class_id) not in result["novel"]:
            names[str(class_id)] = name
    return names | result["novel"]


def protocol_table(results: list[dict[str, Any]]) -> Table:
    """Return the table of one checkpoint's results by several protocols: what the protocol alone does to a number."""
    first_miou = results[0]["mean"][FINAL]["miou"]
    header = ["protocol", "episodes", "seeds", "input", "scored on", "mIoU %", "FB-IoU %", "mIoU - first"]
    out = Table(header, [])
    for result in results:
        scores = result["mean"][FINAL]
        name = f"{result['protocol']}, {result['shot']}-shot"
        if reasons := departures(result):
            name += f" ({', '.join(reasons)})"
        procedure = [
            str(result["episodes"]),
            str(len(result["seeds"])),
            result["input"],
            SCORED_ON[result["scored_on"]],
        ]
        fb_iou = f"{scores['fb_iou']:.2f}" if "fb_iou" in scores else "-"
        difference = f"{scores['miou'] - first_miou:+.2f}"
        out.rows.append([name, *procedure, f"{scores['miou']:.2f}", fb_iou, difference])
    return out


def title(result: dict[str, Any]) -> str:
    """Return the title of a result; it begins in capitals if the result is not the protocol's full number."""
    marks = []
    if result["weights_mark"] and not result["fold_mismatch"]:
        marks.append(WEIGHTS[result["weights_mark"]])
    for reason, details in departures(result).items():
        marks.append(f"{reason.upper()} ({details})" if details else reason.upper())
    ways = result["protocol_settings"].get("ways", 1)
    task = f"{ways}-way {result['shot']}-shot" if ways > 1 else f"{result['shot']}-shot"
    test = f"{protocol_title(result)}, {result['dataset']} fold {result['fold']}, {task}"
    return ": ".join([*marks, test])


def departures(result: dict[str, Any]) -> dict[str, str]:
    """Return why a result is not the number of its protocol and config, each with details; empty if it is."""
    reasons = {}
    if result["fold_mismatch"]:
        reasons["weights of another fold"] = ""
    if result["trained_otherwise"]:
        reasons["trained with other settings"] = "; ".join(result["trained_otherwise"][:3])
    calibrated_in = (result["calibration"] or {}).get("precision")
    if calibrated_in not in (None, result["precision"]):
        reasons["calibrated in another precision"] = calibrated_in or ""
    if result["quick_look"]:
        reasons["quick look"] = _episodes_scored(result)
    if result["other_seeds"]:
        reasons[_seeds_scored(result)] = ""
    if result["replayed"]:
        reasons["replay"] = Path(result["replayed"]).name
    if result["averaged"]:
        reasons[AVERAGED] = passes_in_words(result)
    return reasons


def _episodes_scored(result: dict[str, Any]) -> str:
    """Return how many episodes were scored, and of how many by the protocol unless a manifest was replayed."""
    whole = "" if result["replayed"] else f" of {result['protocol_settings']['episodes']}"
    return f"{result['episodes']}{whole} episodes"


def _seeds_scored(result: dict[str, Any]) -> str:
    """Return in words which seeds were scored in place of the protocol's."""
    seeds = result["seeds"]
    wanted = result["protocol_settings"]["seeds"]
    if set(seeds) < set(wanted):
        return f"{len(seeds)} of {len(wanted)} seeds"
    return "other seeds than the protocol's"


def passes_in_words(result: dict[str, Any]) -> str:
    """Return a test's steps beyond the protocol and their cost, such as 'masks, 5 passes'; '' without such steps."""
    if not result["averaged"]:
        return ""
    passes = f"{result['passes']} passes" if result["passes"] > 1 else f"{result['passes']} pass"
    return f"{', '.join(result['averaged'])}, {passes}"


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
