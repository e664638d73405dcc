"""Results of tests as rows of one frame of pandas, read from their files alone; their names in words; their summaries.

pandas is imported where the first frame is made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from util.evaluate.schema import SCORED_ON, Result, check_output, read_results
from util.evaluate.titles import classes_in_no_mean, departures, seen_text, title, track_text
from util.files.errors import UserError, nearest
from util.files.table import Table
from util.loop.mask_metrics import METRICS, ScoreFacts
from util.loop.metrics import BASE, FINAL, MIOU, per_class

if TYPE_CHECKING:
    from pandas import DataFrame

FB_IOU, SECONDS = "fb_iou", "seconds"  # of a test's time for an episode
SCORES = {
    MIOU: ScoreFacts(title="mIoU", unit="%", scale=100.0, smaller_is_better=False),
    FB_IOU: ScoreFacts(title="FB-IoU", unit="%", scale=100.0, smaller_is_better=False),
    SECONDS: ScoreFacts(title="s / episode", unit="", scale=1.0, smaller_is_better=True),
}
DEVIATION = "standard deviation (of a sample, n - 1)"
SCORE_COLUMNS = ["file", "seed", "output", "class", "score", "value", "title", "unit", "smaller_is_better"]
DIGESTS = ("list", "content", "whole_list", "whole_content")
AS_THEY_ARE = ("method", "encoder", "dataset", "fold", "shot", "protocol", "precision", "episodes", "device", "run")
RESULT_COLUMNS = [
    *("method", "encoder", "dataset", "fold", "shot", "protocol", "draw", "mark", "precision", "output"),
    *("miou", "fb_iou", "episodes", "seeds", "weights", "device", "date", "commit", "run"),
]


def results(paths: Sequence[Path | str], protocols: Sequence[str] = ()) -> DataFrame:
    """Return every score of the results below some paths, a row for each result, seed, output, class and score.

    ``value`` is in ``unit``; ``smaller_is_better`` is None of a metric whose direction the result does not say.
    ``class`` is empty in rows of all classes together; with a class the score ``miou`` is its IoU. ``output`` is
    ``final`` for the prediction, ``seed`` that of the test, ``training_seed`` that of the training, ``row`` the
    result's name in tables, ``file`` the result's. ``list``, ``content`` and those of the whole test list are digests.
    Further columns are those of ``report.py table --rows results``.

    Args:
        paths: result files, or folders.
        protocols: only results of these; none: all.

    Raises:
        UserError: there is no result, or none of a protocol.
    """
    return frame_of(read_results([Path(path) for path in paths], protocols))


def frame_of(by_file: dict[Path, Result]) -> DataFrame:
    """Return the frame of ``results``."""
    import pandas

    rows = list[tuple]()
    for path, result in by_file.items():
        known = scores_of(result)
        for seed, outputs in zip(result["seeds"], result["per_seed"], strict=True):
            for output in outputs:
                for name, score, value in _scores(result, outputs, output):
                    facts = known[score]
                    about = facts["title"], facts["unit"], facts["smaller_is_better"]
                    rows.append((str(path), seed, output, name, score, value, *about))
    scores = pandas.DataFrame(rows, columns=SCORE_COLUMNS).astype({"smaller_is_better": object})
    of_files = pandas.DataFrame([{"file": str(path), **_facts(result)} for path, result in by_file.items()])
    return scores.merge(of_files.astype({"training_seed": "Int64"}), on="file")


def scores_of(*results: Result) -> dict[str, ScoreFacts]:
    """Return what is known of scores by their names, in their order; a result says it of its own further metrics."""
    known = SCORES | {name: metric.facts for name, metric in METRICS.items()}
    names = set[str]()
    for result in results:
        known |= result.get("metrics", {})
        names.update(*result["mean"].values())
    for score in sorted(names - known.keys()):
        known[score] = ScoreFacts(title=score, unit="", scale=1.0, smaller_is_better=None)
    return known


def heading(facts: ScoreFacts) -> str:
    """Return the title of a score with its unit."""
    return f"{facts['title']} {facts['unit']}".strip()


def _scores(result: Result, outputs: dict[str, Any], output: str) -> Iterator[tuple[str, str, float]]:
    """Yield class, score and value of an output of one seed; only scores that it has with every seed."""
    scores = outputs[output]
    names = result["novel"]
    for score in result["mean"][output]:
        yield "", score, scores[score]
        if output != BASE:
            for class_id, value in scores.get(per_class(score), {}).items():
                yield names.get(class_id, class_id), score, value


def _facts(result: Result) -> dict[str, Any]:
    """Return what the rows of a result share."""
    known: dict[str, Any] = {**result}
    facts = {"row": row_name(result), "training_seed": training_seed(result)}
    facts |= {name: known[name] for name in (*AS_THEY_ARE, *DIGESTS)}
    facts["draw"] = result["protocol_settings"].get("draw", "own")
    facts["mark"] = _mark(result)
    facts["seeds"] = " ".join(map(str, result["seeds"]))
    facts["weights"] = result["weights"][:12]
    facts["date"] = result["date"][:10]
    facts["commit"] = str(result["environment"].get("commit", ""))[:8]
    return facts


def _mark(result: Result) -> str:
    """Return what distinguishes a result from the own test of its run's best weights; '' for that."""
    of_weights = result["weights_mark"]
    if of_weights == "foreign":  # of which there may be many
        of_weights += f" {result['checkpoint']}"
    marks = ["edges" if result.get("edges") else "", of_weights]
    if result["replayed"]:
        marks.append("replay")
    if result["quick_look"]:
        marks.append("quick")
    return "; ".join(filter(None, marks))


def training_seed(result: Result) -> int | None:
    """Return the seed of the training of a result's weights; None without one."""
    return result["training"][-1].get("seed") if result["training"] else None


def row_name(result: Result) -> str:
    """Return the row's name: method, encoder, other words of the run's name, weights unless the best, edges."""
    method = f"{result['method']} {result['encoder']}".strip()
    name = ", ".join(filter(None, [method, _further_words(result)]))
    if weights := _weights_text(result):
        name += f" ({weights})"
    return f"{name}, edges" if result.get("edges") else name


def _further_words(result: Result) -> str:
    """Return the words of a run's name that are not its data set, method, encoder, fold or seed."""
    backbone = str(result["backbone"])
    forms = backbone, backbone.replace("/", "-"), backbone.replace("/", "--")  # in names of runs
    usual = "_".join((result["dataset"], result["model"], *forms))
    known = re.split("[_/]", usual)
    words = [word for word in result["run"].split("_") if word not in known]
    return " ".join(word for word in words if not re.fullmatch(r"(split|seed)\d+", word))


def _weights_text(result: Result) -> str:
    """Return which weights a result is of; '' for the run's best ones, and for those of a configured other data set."""
    if result["weights_mark"] != "foreign":
        return result["weights_mark"]
    if result["config"]["test"].get("trained_on") not in (None, result["dataset"]):
        return ""
    place = "/".join(Path(result["checkpoint"]).parts[-3:])
    return re.sub(r"split\d+", "split", place)  # folds share a row


def how_made(path: Path, result: Result, output: str) -> str:
    """Return the line that says how a measured number was made, and of which photos its weights learnt."""
    r = result
    seeds = ", ".join(map(str, r["seeds"]))
    if len(r["seeds"]) > 1:
        spread = r["deviation"][output][MIOU]
        seeds += f", {DEVIATION} over them {spread:.2f}"
    what = f"{row_name(r)}, {r['shot']}-shot, {r['dataset']} fold {r['fold']}: {r['episodes']} episodes, seeds {seeds}"
    made = f"list {r['list'][:8]} of {r['list_images']}, weights {r['weights'][:8]}, {r['date'][:10]}, {r['device']}"
    words = [what, r["input"], _trained_text(r), f"tested in {r['precision']}", made, seen_text(r)]
    return f"{'; '.join(filter(None, words))}: {path}"


def _trained_text(result: Result) -> str:
    """Return how the weights of a result were trained, in words; '' without a training."""
    if not (stages := stages_text(result)):
        return ""
    seed = training_seed(result)
    words = [stages, "" if seed is None else f"seed {seed}", trained_precision(result)]
    return f"trained: {', '.join(filter(None, words))}"


def stages_text(result: Result) -> str:
    """Return steps and batch of each stage that trained a result's weights, in words; '' if none is known.

    Of a training that is not finished the steps that it did, and those that were planned.
    """
    texts = list[str]()
    for stage in result["training"]:
        steps = str(stage["steps"])
        if not result.get("finished", True) and stage.get("step", stage["steps"]) != stage["steps"]:
            steps = f"{stage['step']} of {steps}"
        texts.append(f"{stage['stage']} stage {steps} steps with batch {stage['batch']}")
    return ", ".join(texts)


def trained_precision(result: Result) -> str:
    """Return in which precision the weights of a result were trained, of all stages; '' if nothing says it."""
    stages = (stage.get("precision") for stage in result["training"])
    return " and ".join(dict.fromkeys(filter(None, stages)))


def summary(by_file: dict[Path, Result], form: str = "markdown") -> str:
    """Return the tables of some results with their conditions in words, and a table of all if they are of one run.

    ``form`` is one of ``util.files.table.FORMATS``.
    """
    texts = list[str]()
    for result in by_file.values():
        conditions = f"{title(result)}, list {result['list_source']}, in {result['precision']}"
        tables = f"{score_table(result):{form}}", "", f"{class_score_table(result):{form}}"
        track = track_text({result["shot"]: result["track"]})
        texts.append("\n".join([conditions, track, *tables, *classes_in_no_mean(result), ""]))
    runs = {(result["dataset"], result["run"], result["fold"]) for result in by_file.values()}
    if len(by_file) > 1 == len(runs):
        texts.append(format(protocol_table([*by_file.values()]), form))
    return "\n".join(texts)


def score_table(result: Result) -> Table:
    """Return the table of a result: one row per output, each score as mean (and deviation) over seeds.

    A note says which deviation it is.
    """
    present = {key for scores in result["mean"].values() for key in scores}
    known = scores_of(result)
    keys = [key for key in known if key in present]
    out = Table(["output", *(heading(known[key]) for key in keys)], [])
    for output in result["mean"]:
        out.rows.append([output, *(_score_text(result, output, key) for key in keys)])
    seeds = len(result["seeds"])
    if seeds > 1:
        images = f"the same {result['list_images']} images, not over others"
        out.notes.append(f"+-: {DEVIATION} over {seeds} test seeds, of {images}.")
    return out


def _score_text(result: Result, output: str, key: str) -> str:
    """Return a score, with its deviation if there are several seeds; a dash where the output has none."""
    scores = result["mean"][output]
    if key not in scores:
        return "-"
    deviation = result["deviation"][output][key]
    spread = f" +- {deviation:.2f}" if len(result["seeds"]) > 1 else ""
    return f"{scores[key]:.2f}{spread}"


def class_score_table(result: Result) -> Table:
    """Return the table of a result's novel classes: IoU and further metrics of each output, over seeds."""
    columns = {}
    for score, facts in scores_of(result).items():
        for output in result["mean"]:
            if output != BASE and (values := class_scores(result, output, score)):
                columns[output if score == MIOU else f"{output}, {heading(facts)}"] = values
    out = Table(["class, IoU %", *columns], [])
    for name in result["novel"].values():
        texts = (f"{values[name]:.2f}" if name in values else "-" for values in columns.values())
        out.rows.append([name, *texts])
    return out


def class_scores(result: Result, output: str, score: str = MIOU) -> dict[str, float]:
    """Return a score, the IoU or a further metric, by the names of the classes with an episode: mean over seeds."""
    values_by_name: dict[str, list[float]] = {}
    for outputs in result["per_seed"]:
        scores: dict[str, Any] = {**outputs[output]}
        for class_id, value in scores.get(per_class(score), {}).items():
            values_by_name.setdefault(result["novel"].get(class_id, class_id), []).append(value)
    return {name: fmean(values) for name, values in values_by_name.items()}


def protocol_table(of_run: Sequence[Result]) -> Table:
    """Return the table of one checkpoint's results by several protocols: what the protocol alone does to a number."""
    first_miou = of_run[0]["mean"][FINAL][MIOU]
    out = Table(["protocol", "episodes", "seeds", "input", "scored on", "mIoU %", "FB-IoU %", "mIoU - first"], [])
    for result in of_run:
        scores = result["mean"][FINAL]
        name = f"{result['protocol']}, {result['shot']}-shot"
        if reasons := departures(result):
            name += f" ({', '.join(reasons)})"
        numbers = str(result["episodes"]), str(len(result["seeds"]))
        fb_iou = f"{scores[FB_IOU]:.2f}" if FB_IOU in scores else "-"
        difference = f"{scores[MIOU] - first_miou:+.2f}"
        procedure = result["input"], SCORED_ON[result["scored_on"]]
        out.rows.append([name, *numbers, *procedure, f"{scores[MIOU]:.2f}", fb_iou, difference])
    return out


def result_table(
    paths: list[Path], output: str = FINAL, protocols: Sequence[str] = (), sort: str | None = None
) -> Table:
    """Return a table with a row for each result below some paths, with the scores of one output in percent.

    Args:
        paths: result files, or folders.
        output: name of the output.
        protocols: only results of these; none: all.
        sort: the column by which rows stand: numbers largest first, words by the alphabet, empty cells last.

    Raises:
        UserError: there is no result, none of a protocol, or no such output or column.
    """
    by_file = read_results(paths, protocols)
    for path, result in by_file.items():
        check_output(path, output, result["mean"])
    frame = frame_of(by_file)
    overall = frame[(frame["output"] == output) & (frame["class"] == "")]
    scores = overall.pivot_table(index="file", columns="score", values="value")  # means over seeds
    rows = overall.drop_duplicates("file").set_index("file").join(scores).reindex(columns=RESULT_COLUMNS)
    rows = rows.sort_values(RESULT_COLUMNS).replace("", None)
    if sort is not None:
        if sort not in RESULT_COLUMNS:
            raise UserError(f"--sort {sort}: no column of this table{nearest(sort, RESULT_COLUMNS)}")
        rows = rows.sort_values(sort, ascending=rows[sort].dtype.kind not in "if", kind="stable")
    for score in (MIOU, FB_IOU):
        rows[score] = rows[score].map("{:.2f}".format, na_action="ignore")
    return Table(RESULT_COLUMNS, rows.astype(object).fillna("").astype(str).values.tolist())
