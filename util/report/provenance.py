"""How a number was made, in words: trainings of its weights, and conditions of its test."""

from itertools import chain

from util.evaluate.schema import Result
from util.evaluate.titles import seen_text
from util.report.row import Row
from util.run.run import TRAINING_FREE, UNTRAINED


def how_made(row: Row) -> str:
    """Return the line that says how a measured number was made, and of which photos its weights learnt."""
    result = row.result
    seeds = ", ".join(map(str, result["seeds"]))
    place = f"{result['dataset']} fold {result['fold']}"
    clauses = [
        f"{row.name}, {result['shot']}-shot, {place}: {result['episodes']} episodes, seeds {seeds}",
        result["input"],
        _training_text(row),
        _start_text(result),
        f"tested in {result['precision']}",
        f"list {result['list'][:8]} of {result['list_images']}, weights {result['weights'][:8]}, "
        f"{result['date'][:10]}, {result['device']}",
        seen_text(result),
    ]
    return f"{'; '.join(filter(None, clauses))}: {row.file}"


def _training_text(row: Row) -> str:
    """Return the clause on the training of a result's weights; '' without one."""
    seed = "" if row.training_seed is None else f"seed {row.training_seed}"
    words = ", ".join(filter(None, [stages_text(row.result), seed, trained_precision(row.result)]))
    return f"trained: {words}" if words else ""


def _start_text(result: Result) -> str:
    """Return the clause on what the encoder of a result's weights started from; '' where it is not known."""
    if result["trained_with"] is None and result["checkpoint"] not in (UNTRAINED, TRAINING_FREE):
        return ""
    trained_with = result["trained_with"] or {}  # data settings and, among them, the section ``model``
    encoder = trained_with.get("model", result["config"]["model"]).get("encoder", {})
    return f"encoder's weights {encoder['weights'] or 'random'}, stem {encoder['stem']}" if "stem" in encoder else ""


def stages_text(result: Result) -> str:
    """Return steps, batch and photos of each stage that trained a result's weights, in words; '' if none is known.

    Of a training that is not finished the steps that it did, and those that were planned.
    """
    texts = []
    for stage in result["training"]:
        done = stage.get("step", stage["steps"])
        is_whole = done == stage["steps"] or (result.get("finished", True) and not stage.get("ended_by"))
        steps = stage["steps"] if is_whole else f"{done} of {stage['steps']}"
        note = f" ({stage['list_note']})" if stage.get("list_note") else ""
        photos = f" on {stage['images']} photos{note}" if "images" in stage else ""
        texts.append(f"{stage['stage']} stage {steps} steps with batch {stage['batch']}{photos}")
    return ", ".join(texts)


def trained_precision(result: Result) -> str:
    """Return in which precision the weights of a result were trained, of all stages; '' if nothing says it."""
    of_stages = [stage.get("computed_in") or [stage.get("precision")] for stage in result["training"]]
    return " and ".join(dict.fromkeys(filter(None, chain.from_iterable(of_stages))))
