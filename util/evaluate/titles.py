"""A result in words: its title, what makes it another number than its protocol's, and the data it learnt from."""

from pathlib import Path

from util.config.settings import EPISODE_RULES
from util.data.draws import OWN
from util.data.lists.list_files import is_published
from util.evaluate.schema import NOT_STATED, Result, Track
from util.loop.metrics import FINAL
from util.weights.origin import deciding

MADE_FROM_MASKS = "made from the masks"  # a list_source
WEIGHTS = {"last": "LAST CHECKPOINT", "untrained": "UNTRAINED", "foreign": "WEIGHTS FROM ELSEWHERE"}  # by weights_mark
TEXT_READ = {True: "read", False: "none", None: NOT_STATED}  # of a track


def title(result: Result) -> str:
    """Return the title of a result; it begins in capitals if the result is not the protocol's full number."""
    marks = [WEIGHTS[result["weights_mark"]]] if result["weights_mark"] else []
    for reason, details in departures(result).items():
        marks.append(f"{reason.upper()} ({details})" if details else reason.upper())
    ways = result["protocol_settings"].get("ways", 1)
    task = f"{ways}-way {result['shot']}-shot" if ways > 1 else f"{result['shot']}-shot"
    fold = f"{result['dataset']} fold {result['fold']}, {result['episodes']} episodes"
    test = f"{protocol_title(result)}, {fold}, {task}"
    return ": ".join([*marks, test])


def classes_in_no_mean(result: Result) -> list[str]:
    """Return in words, a line each, which novel classes have too few images, and how many others have no episode."""
    lines = []
    if left_out := result["left_out"]:
        lines.append(
            f"{len(left_out)} classes have too few images and are left out (data.rare_classes: skip): "
            f"{', '.join(left_out)}"
        )
    if missing := result["classes_without_episodes"]:
        other = " other" if left_out else ""
        lines.append(f"{missing}{other} classes have no episode and are excluded from every mean")
    return lines


def score_line(result: Result) -> str:
    """Return the title of a result with the mIoU of its prediction, and its deviation if there are several seeds."""
    miou = f"{result['mean'][FINAL]['miou']:.2f}"
    if len(result["seeds"]) > 1:
        miou += f" +- {result['deviation'][FINAL]['miou']:.2f}"
    return f"{title(result)}: {miou} % mIoU"


def departures(result: Result) -> dict[str, str]:
    """Return why a result is not the number of its protocol and config, each with details; empty if it is.

    First how the weights differ from those that the config would give, then how the episodes, and what was done with
    their masks, differ from the protocol.
    """
    listed, trained_on = result["photos_listed"], result["photos_trained_on"]
    stages, changes = result["training"], result.get("protocol_changes", [])
    samplers = {stage["settings"].get("query", EPISODE_RULES[0]) for stage in stages} - {*EPISODE_RULES}
    precisions = {p for stage in stages for p in stage.get("computed_in", ()) if p != stage["precision"]}
    seen = result.get("classes_trained_on", [])
    whole = "" if result["replayed"] else f" of {result['protocol_settings']['episodes']}"
    steps = "".join(f"step {stage.get('step')} of {stage['steps']}" for stage in result["training"][-1:])
    reasons = [
        (result.get("fold_mismatch", False), "weights of another fold", ""),
        (seen, "trained on tested classes", ", ".join(seen)),
        (not result.get("finished", True), "not finished", steps),
        (observers := _observers(result), "own observers", observers),
        (samplers, "own sampler", ", ".join(samplers)),
        (precisions, "changed precision", ", ".join(precisions)),
        (result["trained_otherwise"], "trained with other settings", "; ".join(result["trained_otherwise"][:3])),
        (trained_on, "trained on test photos", str(trained_on)),
        (listed and trained_on is None, "test photos in the training list", str(listed)),
        (result["quick_look"], "quick look", f"{result['episodes']}{whole} episodes"),
        (result["other_seeds"], _seeds_scored(result), ""),
        (result["replayed"], "replay", Path(result["replayed"] or "").name),
        (changes and not result["replayed"], "changed protocol", "; ".join(changes[:3])),
    ]
    return {reason: details for holds, reason, details in reasons if holds}


def _observers(result: Result) -> str:
    """Return the observers that may have decided something in the trainings of a result's weights, with settings."""
    found = []
    for stage in result["training"]:
        for name, settings, _ in deciding(stage.get("observers", {})) or ():
            found.append(" ".join([name, *(f"{key} {value}" for key, value in settings.items())]))
    return ", ".join(dict.fromkeys(found))


def seen_text(result: Result) -> str:
    """Say how many test photos are in the training list, and how many were trained on; '' if none is."""
    listed, trained_on = result["photos_listed"], result["photos_trained_on"]
    words = [f"{listed} test photos are in the training list too"] if listed else []
    if trained_on or (listed and trained_on is not None):
        words.append(f"{trained_on} test photos were trained on")
    return ", ".join(words)


def _seeds_scored(result: Result) -> str:
    """Say which seeds were scored in place of the protocol's."""
    seeds, wanted = result["seeds"], result["protocol_settings"]["seeds"]
    if set(seeds) < set(wanted):
        return f"{len(seeds)} of {len(wanted)} seeds"
    return "other seeds than the protocol's"


def protocol_title(result: Result) -> str:
    """Return the full name of a result's protocol: with the fold rule and, where there are several, list and draw."""
    words = [f"{result['fold_rule']} folds", _list_text(result), draw_text(result)]
    return f"{result['protocol']} ({', '.join(filter(None, words))})"


def _list_text(result: Result) -> str:
    """Return the origin of the test list; '' where there is only one, or where a manifest replaces the list."""
    if result["replayed"]:
        return ""
    if result["list_source"] != MADE_FROM_MASKS:
        return "published list" if is_published(result["list_source"]) else "own list"
    by_pairs = result["protocol_settings"]["query"] == "pairs" or result["list_note"]
    return f"pairs by {result['min_pixels']} pixels" if by_pairs else ""


def draw_text(result: Result) -> str:
    """Return whether a result is of the published episodes; '' for a protocol that names no published draw."""
    if result["protocol_settings"].get("draw", OWN) == OWN or (result["draw_note"] and result["replayed"]):
        return ""
    return "drawn here" if result["draw_note"] else "published episodes"


def track_text(tracks: dict[int, Track]) -> str:
    """Return the tracks of a method, number of test shots -> track, in words."""
    words = {shot: _text_of_track(track) for shot, track in tracks.items()}
    distinct = list(dict.fromkeys(words.values()))
    if len(distinct) > 1:
        distinct = [f"{shot}-shot: {text}" for shot, text in words.items()]
    for shot, track in tracks.items():
        if track["train_shot"] not in (None, shot):
            distinct.append(f"{shot}-shot by weights of {track['train_shot']} shot")
    return "; ".join(distinct)


def _text_of_track(track: Track) -> str:
    """Return a track in words, without the number of shots of its training."""
    parts = []
    if track["encoder_data"] != "":
        parts.append(f"encoder's data: {track['encoder_data'] or NOT_STATED}")
    parts.append(f"text: {TEXT_READ[track['text']]}")
    parts.append(f"training: {track['training'] or NOT_STATED}")
    if track["training"] in (None, "in-domain"):
        parts.append(f"photos of novel classes: {track['novel_photos'] or NOT_STATED}")
    return "; ".join(parts)
