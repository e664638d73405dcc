"""Tables of single results: scores, classes, and the protocols of one checkpoint."""

from statistics import fmean
from typing import Any

from util.evaluate.schema import SCORED_ON
from util.evaluate.titles import classes_in_no_mean, departures, title, track_text
from util.loop.mask_metrics import METRICS
from util.loop.metrics import BASE, FINAL, MIOU, per_class
from util.report.table import Table

_SCORES = {
    MIOU: "mIoU %",
    "fb_iou": "FB-IoU %",
    "presence_accuracy": "presence accuracy %",
    "presence_auroc": "AUROC %",
}
DEVIATION = "standard deviation (of a sample, n - 1)"


def score_titles() -> dict[str, str]:
    """Return the names of the scores' columns, in their order; those of further metrics are the last."""
    return _SCORES | {name: metric.title for name, metric in METRICS.items()}


def class_score_titles() -> dict[str, str]:
    """Return the names of the columns of the scores that each class has."""
    return {MIOU: "IoU %"} | {name: metric.title for name, metric in METRICS.items()}


def summary(result: dict[str, Any], form: str) -> str:
    """Return the tables of a result, in one of ``util.report.table.FORMATS``, with its conditions in words."""
    lines = [
        f"{title(result)}, list {result['list_source']}, in {result['precision']}",
        track_text({result["shot"]: result["track"]}),
        format(score_table(result), form),
        "",
        format(class_score_table(result), form),
    ]
    lines += classes_in_no_mean(result)
    return "\n".join(lines)


def score_table(result: dict[str, Any]) -> Table:
    """Return the table of a result: one row per output, each score as mean (and deviation) over seeds.

    A note says which deviation it is.
    """
    present = {key for scores in result["mean"].values() for key in scores}
    titles = score_titles()
    keys = [key for key in titles if key in present]
    keys += sorted(present - titles.keys())
    headings = [titles.get(key, key) for key in keys]
    out = Table(["output", *headings], [])
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


def class_score_table(result: dict[str, Any]) -> Table:
    """Return the table of a result's novel classes: IoU and further metrics of each output, over seeds."""
    columns = {}
    for score, score_title in class_score_titles().items():
        for output in result["mean"]:
            if output != BASE and (values := class_scores(result, output, score)):
                columns[output if score == MIOU else f"{output}, {score_title}"] = values
    out = Table(["class, IoU %", *columns], [])
    for name in result["novel"].values():
        texts = (f"{values[name]:.2f}" if name in values else "-" for values in columns.values())
        out.rows.append([name, *texts])
    return out


def class_scores(result: dict[str, Any], output: str, score: str = MIOU) -> dict[str, float]:
    """Return a score, the IoU or a further metric, by the names of the classes with an episode: mean over seeds."""
    names = result["novel"]
    values_by_name: dict[str, list[float]] = {}
    for scores in result["per_seed"]:
        for class_id, value in scores[output].get(per_class(score), {}).items():
            values_by_name.setdefault(names.get(class_id, class_id), []).append(value)
    return {name: fmean(values) for name, values in values_by_name.items()}


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
