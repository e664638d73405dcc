"""The paper's tables from result files: folds, mean and FB-IoU beside published rows, and the IoU of each class."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, pstdev
from string import ascii_lowercase
from typing import Any

import yaml

from util.cli import words
from util.config.settings import EDGES, IRRELEVANT
from util.errors import UserError, nearest
from util.report.result_table import (
    AVERAGED,
    HELD,
    SCORES,
    class_ious,
    class_names,
    departures,
    is_generalised,
    passes_in_words,
    protocol_title,
)
from util.report.schema import NOT_STATED, Track, find_results, in_words, read_result
from util.report.scores import BASE, FINAL, NETWORK, SMALLER_IS_BETTER
from util.report.table import Table

PUBLISHED = Path(__file__).with_name("published.yaml")
MEASURED, DOUBTFUL = "*", "?"  # marks of cells
TRAINING_FREE = "training-free"  # the checkpoint of a method that learns nothing
OF_FOLD = ("list_file", "fold", "typical_epochs")  # settings that may differ between folds of a mean
CROSS_DOMAIN = {"fss1000", "deepglobe", "isic", "chestxray"}  # whose mean the published rows of the benchmark are
Results = dict[Path, dict[str, Any]]
Column = tuple[int, Any]  # number of shots; a fold, a data set, ``mean``, a score's key, or (fold, class or score)


@dataclass
class Row:
    """The cells of a method: measured here, or published in ``source``."""

    method: str
    protocol: str
    encoder: str
    source: str | None
    cells: dict[Column, float] = field(default_factory=dict)
    spread: dict[Column, float] = field(default_factory=dict)  # standard deviations of cells over seeds
    seeds: dict[int, str] = field(default_factory=dict)  # over which ones, in words, by number of shots
    parameters: str = ""  # in millions
    doubts: dict[Column, str] = field(default_factory=dict)  # reason why a cell is not the protocol's number
    tracks: dict[int, Track] = field(default_factory=dict)  # by number of shots


def table(
    paths: list[Path],
    output: str = FINAL,
    protocol: str | None = None,
    across: bool = False,
    published: str | None = None,
) -> Table:
    """Return the table of all results below some paths; a column without a number is left out.

    Args:
        across: columns are data sets, as in the cross-domain benchmark, and not folds of one.
        published: papers whose rows are shown, with commas, or ``none``; default all.

    Raises:
        UserError: there are no results, or their protocols, data sets or settings differ, so that they cannot share
            a column.
    """
    results, elsewhere = _chosen(paths, output, protocol, across)
    first, by = next(iter(results.values())), "dataset" if across else "fold"
    shots = sorted({r["shot"] for r in results.values()})
    places = list(dict.fromkeys(r[by] for r in results.values())) if across else list(range(first["folds"]))
    quoted_from = first["dataset"] if not across else "crossdomain" if {*places} == CROSS_DOMAIN else ""
    further = sorted({key for r in results.values() for key in r["mean"].get(output, ())} - set(HELD))
    whole, present = is_generalised(first), {r[by] for r in results.values()}
    scores = [] if across else [key for key in SCORES if key in further] if whole else ["fb_iou", *further]
    of_one = [(*present, key) for key in scores] if len(present) < min(2, len(places)) else []
    if whole:  # base, novel and their mean of every fold that is there
        of_one = of_one or [(fold, key) for fold in sorted(present) for key in ("base", "novel")]
    shown = sorted(present) if whole else places
    columns = [(shot, c) for shot in shots for c in (*shown, *of_one, "mean", *scores, "seconds")]
    folds = first["folds"] if whole else None
    quoted, omitted = published_rows(quoted_from, shots, first["fold_rule"], folds, published)
    rows = [*quoted, *_measured_rows(results, output, places, by)]
    out = _as_table(rows, [column for column in columns if any(column in row.cells for row in rows)])
    out.notes = [
        f"{MEASURED} measured here, {output} output; other numbers are quoted from the numbered source.",
        *out.notes,
        *(f"{MEASURED} {_note(path, r, output)}" for path, r in results.items()),
        *omitted,
        *elsewhere,
    ]
    if not quoted_from:
        out.notes.append(f"omitted: published means, which are of {', '.join(sorted(CROSS_DOMAIN))}.")
    return out


def class_table(paths: list[Path], output: str = FINAL, protocol: str | None = None) -> Table:
    """Return the IoU of each class: rows by fold, a column for each method and shots; errors as ``table``."""
    if output == BASE:
        raise UserError(f"--output {BASE} --per-class: this output has no novel class; leave out one of them")
    results, elsewhere = _chosen(paths, output, protocol, across=False)
    first = next(iter(results.values()))
    rows = _measured_rows(results, output, list(range(first["folds"])), "fold")
    columns = sorted({(shot, i) for i, row in enumerate(rows) for shot, _ in row.cells})
    letters, notes = _explained(rows)
    doubts = [DOUBTFUL if (shot, "mean") in rows[i].doubts else "" for shot, i in columns]
    names = [rows[i].method + letters[in_words(rows[i].tracks)] + mark for (_, i), mark in zip(columns, doubts)]
    out = Table(["fold", "class", *names], [], ["", "", *(f"{shot}-shot" for shot, _ in columns)])
    lines: list[tuple[object, str, Any]] = []  # fold, class, and the key of their cells
    for fold in sorted({r["fold"] for r in results.values()}):
        classes = dict.fromkeys(n for r in results.values() if r["fold"] == fold for n in class_names(r).values())
        out.ruled |= {len(lines)} - {0}
        lines += [*((fold, name, (fold, name)) for name in classes), (fold, "mean", fold)]
    for i, (fold, name, place) in enumerate(lines):
        out.rows.append([str(fold), name, *(_cell(rows[row], (shot, place)) for shot, row in columns)])
        out.best |= {(i, j) for j, (shot, row) in enumerate(columns, 2) if row in _best(rows, (shot, place))}
    notes = [f"IoU % by {protocol_title(first)}, {output} output, mean over seeds; mean: mIoU.", *notes]
    out.facts = {"notes": [" ".join(notes)] * len(lines)}
    out.notes = [*notes, *(_note(path, r, output) for path, r in results.items()), *elsewhere]
    return out


def _chosen(paths: list[Path], output: str, protocol: str | None, across: bool) -> tuple[Results, list[str]]:
    """Return the results of a table, after checking that they can share it, and notes on those of another fold."""
    found = {path: read_result(path) for path in find_results(paths)}
    rank = {
        p: (r["quick_look"], r["other_seeds"], output != FINAL and EDGES in r["averaged"]) for p, r in found.items()
    }
    for r in found.values() if output != FINAL else ():
        r["averaged"] = [words for words in r["averaged"] if words != EDGES]  # which the prediction alone has
        for scores in (r["mean"], r["deviation"], *r["per_seed"]):  # without edges it is the network's
            scores.setdefault(NETWORK, scores[FINAL])
    results = {p: r for p, r in found.items() if not r["replayed"] and protocol in (None, r["protocol"])}
    elsewhere = [path for path, r in results.items() if r["fold_mismatch"]]
    results = {path: r for path, r in results.items() if path not in elsewhere}
    best = {_cell_of(results[path]): rank[path] for path in sorted(results, key=rank.__getitem__, reverse=True)}
    results = {path: r for path, r in results.items() if rank[path] == best[_cell_of(r)]}
    if not results:
        known = {r["protocol"] for r in found.values()}
        wanted, hint = (f" of protocol {protocol}", nearest(protocol, known)) if protocol else ("", "")
        omitted = "(replayed manifests and weights of another fold are omitted)"
        raise UserError(f"{', '.join(map(str, paths))}: no result to show{wanted} {omitted}{hint}")
    check_mixture(results, across, "name fewer runs, or choose with --protocol")
    return results, [f"omitted: {path}, scored with weights of another fold." for path in elsewhere]


def _cell_of(result: dict[str, Any]) -> tuple:
    """Return the key of a result's cell in the table, with its training's seed."""
    keys = "protocol", "shot", "dataset", "fold"
    return row_name(result), *(result[key] for key in keys), _training_seed(result)


def _training_seed(result: dict[str, Any]) -> int | None:
    """Return the seed of the training of a result's weights, None without one; of a planned result as planned."""
    stages = result.get("training", [{"seed": result["config"].get("run", {}).get("seed")}])
    return stages[-1].get("seed") if stages else None


def row_name(result: dict[str, Any]) -> str:
    """Return the row's name: method, encoder, other words of the run's name, weights unless the best, averaging."""
    backbone = str(result["backbone"])
    forms = backbone, backbone.replace("/", "-"), backbone.replace("/", "--")  # in names of runs
    known = re.split("[_/]", "_".join((result["dataset"], result["model"], *forms)))
    words = [w for w in result["run"].split("_") if w not in known and not re.fullmatch(r"(split|seed)\d+", w)]
    name = ", ".join(filter(None, [f"{result['method']} {result['encoder']}".strip(), " ".join(words)]))
    mark = result["weights_mark"]
    if mark == "foreign":
        trained_elsewhere = result["config"].get("test", {}).get("trained_on")
        place = re.sub(r"split\d+", "split", "/".join(Path(result["checkpoint"]).parts[-3:]))  # folds share a row
        mark = "" if trained_elsewhere else place
    return name + (f" ({mark})" if mark else "") + (f", {passes_in_words(result)}" if result["averaged"] else "")


def check_mixture(results: Results, across: bool, mend: str) -> None:
    """Refuse results, or what is known of planned ones, that differ where a table, a column or a row holds one.

    Raises:
        UserError: names two of them, what they differ in, and the mend.
    """
    seen: dict[tuple, tuple[Path, Any]] = {}
    for path, r in results.items():
        method, _, shot, dataset, fold, _ = cell = _cell_of(r)
        if cell in seen:
            raise UserError(
                f"{seen[cell][0]} and {path} are both {method}, {shot}-shot, fold {fold}; name only one of them"
            )
        seen[cell] = path, None
        terms = {
            ("data set",): across or dataset,
            ("protocol",): protocol_title(r),
            ("number of folds",): across or r["folds"],
            ("data.fold_classes",): across or r["config"].get("data", {}).get("fold_classes"),
            # the side is of the network: notes state it, and means mark another
            ("protocol settings",): {k: v for k, v in r["protocol_settings"].items() if k not in ("list_file", "side")},
            ("data.min_pixels",): across or r["min_pixels"],
            ("test list", dataset, fold, shot): r.get("list"),  # shots decide it where rare classes are skipped
            ("track", method, shot): in_words({shot: r["track"]}) if "track" in r else None,
        }
        for key, value in terms.items():
            before, other = seen.setdefault(key, (path, value))
            if other != value and (value is not None or len(key) == 1):
                differ = f"{before} and {path} differ in {key[0]} ({other}; {value})"
                raise UserError(f"{differ}: one column, or row, holds one; {mend}")


def _measured_rows(results: Results, output: str, places: list[Any], by: str) -> list[Row]:
    """Return the rows of our own results; mean and FB-IoU are cells only if all folds, or data sets, are there.

    A cell is the mean over the trainings with different seeds, and its spread their standard deviation; with one
    training that over the seeds of the test.
    """
    rows: dict[str, Row] = {}
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for path, r in results.items():
        if output not in r["mean"]:
            raise UserError(f"{path}: output '{output}' is unknown{nearest(output, r['mean'])}")
        groups.setdefault((row_name(r), r["shot"]), []).append(r)
    for (method, shot), found in groups.items():
        first, seeds = found[0], sorted({_training_seed(r) or 0 for r in found})
        if several := len(found) > len({r[by] for r in found}):  # trainings of one place
            trainings = [{r[by]: r for r in found if (_training_seed(r) or 0) == seed} for seed in seeds]
        else:  # one of each, whatever its seed
            trainings = [{r[by]: r for r in found}]
        of_each = [_cells(one, output, places) for one in trainings]
        samples = of_each
        if not several:
            seeds = first["seeds"] if all(r["seeds"] == first["seeds"] for r in found) else []
            samples = [_cells(trainings[0], output, places, i) for i in range(len(seeds))]
        row = rows.setdefault(method, Row(method, protocol_title(first), first["encoder"], None))
        row.tracks[shot] = first["track"]
        columns = dict.fromkeys(c for cells in of_each for c in cells)
        row.cells |= {(shot, c): fmean(cells[c] for cells in of_each if c in cells) for c in columns}
        if len(samples) > 1:
            spread = {c: [cells[c] for cells in samples if c in cells] for c in columns}
            row.spread |= {(shot, c): pstdev(values) for c, values in spread.items() if len(values) > 1}
            row.seeds[shot] = f"{'training' if several else 'test'} seeds {', '.join(map(str, seeds))}"
        if all("parameters" in r for r in found):
            row.parameters = f"{first['parameters'] / 1e6:.1f} ({first['learnt_parameters'] / 1e6:.1f})"
            took = (60 * r["minutes"] * r["processes"] / (r["episodes"] * len(r["seeds"])) for r in found)
            row.cells[shot, "seconds"] = fmean(took)
        for r in found:
            others = {other[by] for other in found} - {r[by]}
            own = [c for c in columns if (c[0] if isinstance(c, tuple) else c) not in others]
            if why := ", ".join(why for why in departures(r) if why != AVERAGED):
                row.doubts |= dict.fromkeys([(shot, c) for c in (*own, "mean")], why)
        made = "made with different settings" if any(_made(r, by) != _made(first, by) for r in found) else ""
        if len({len(one) for one in trainings}) > 1:
            made = "not every training has all folds"
        if made:
            alone = () if several else {r[by] for r in found}  # cells of one result
            joint = [c for c in columns if (c[0] if isinstance(c, tuple) else c) not in alone]
            row.doubts |= dict.fromkeys([(shot, c) for c in joint], made)
    return list(rows.values())


def _cells(
    of_place: dict[Any, dict[str, Any]], output: str, places: list[Any], test: int | None = None
) -> dict[Any, float]:
    """Return the scores of a training's results by fold or data set, and their means if all are there.

    Args:
        test: the number of a test's seed; None: their mean, and that of each class.
    """
    own = {p: r["mean"][output] if test is None else r["per_seed"][test][output] for p, r in of_place.items()}
    own = {place: {k: v for k, v in scores.items() if k != "per_class"} for place, scores in own.items()}
    out: dict[Any, float] = {place: scores["miou"] for place, scores in own.items()}
    out |= {(place, key): value for place, scores in own.items() for key, value in scores.items()}
    for place, r in of_place.items() if test is None else ():
        out |= {(place, name): iou for name, iou in class_ious(r, output).items()}
    if len(own) == len(places):
        everywhere = set.intersection(*map(set, own.values()))
        out |= {key: fmean(scores[key] for scores in own.values()) for key in everywhere}
        out["mean"] = out["miou"]
    return out


def _made(result: dict[str, Any], by: str) -> list[Any]:
    """Return how a result was trained and tested, but for the fold, the seeds and the start of the encoder."""
    config, trained = result["config"], result["trained_with"] or {}
    stages, model = result["training"], config.get("model", {})
    start = ("weights", "partial", "pretraining")
    encoder = {key: value for key, value in (model.get("encoder") or {}).items() if key not in start}
    of_stages = [(s["batch"], s["size"], {k: v for k, v in s["settings"].items() if k not in OF_FOLD}) for s in stages]
    tested = _lists(config.get("data", {})) if by == "fold" else {}
    start_weights = result["weights"] if result["checkpoint"] == TRAINING_FREE else ""
    how = [result["precision"], result["input"], result["calibration"] is None, start_weights]
    return [of_stages, _lists(trained), tested, model | {"encoder": encoder}, result["size"], result["text"], *how]


def _lists(data: dict[str, Any]) -> dict[str, Any]:
    """Return data settings that decide lists, and the precision of a training, without what names the fold."""
    left = {k: v for k, v in data.items() if k not in (*IRRELEVANT, *OF_FOLD, "root", "text_dir", "shot", "model")}
    fold = rf"(?<!\d){data.get('fold')}(?!\d)"
    return {k: re.sub(fold, "{fold}", v) if isinstance(v, str) else v for k, v in left.items()}


def published_rows(
    dataset: str, shots: list[int], fold_rule: str, generalised: int | None = None, chosen: str | None = None
) -> tuple[list[Row], list[str]]:
    """Return the published rows, and notes on those that are omitted because their folds differ.

    Args:
        generalised: only those of generalised segmentation on so many folds; None: none of them.
        chosen: papers, with commas, or ``none``; None: all.

    Raises:
        UserError: a chosen paper is not known.
    """
    content = yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))
    known = {paper.lower(): paper for paper in content["papers"]}
    wanted = list(known) if chosen is None else [] if chosen == "none" else [*words(chosen.lower())]
    if unknown := [word for word in wanted if word not in known]:
        raise UserError(f"--published {unknown[0]}: no such paper{nearest(unknown[0], known)}")
    rows, omitted = [], list[str]()
    for entry in [*content["rows"], *content["foundation"]]:
        paper, encoder = entry["paper"], entry["encoder"]
        known_shots = [shot for shot in shots if shot in entry["miou"] and paper.lower() in wanted]
        if entry["dataset"] != dataset or not known_shots or entry.get("generalised") != generalised:
            continue
        name = ", ".join(filter(None, [f"{paper} {encoder}", entry.get("variant")]))
        protocol, rule = entry["protocol"] or NOT_STATED, entry.get("fold_rule", fold_rule)
        if rule not in (None, fold_rule):
            omitted.append(f"omitted: {name} by {protocol}, published on other folds ({rule}).")
            continue
        if "fold_rule" in entry:
            protocol += f" ({rule or 'unstated'} folds)"
        row = Row(name, protocol, encoder, content["papers"][paper])
        for shot in known_shots:
            *folds, row.cells[shot, "mean"] = entry["miou"][shot]
            row.cells |= {(shot, fold): miou for fold, miou in enumerate(folds)}
            for key in ("base", "novel") if generalised else ():
                *folds, row.cells[shot, key] = entry[key][shot]
                row.cells |= {(shot, (fold, key)): value for fold, value in enumerate(folds)}
            if "fb_iou" in entry:
                row.cells[shot, "fb_iou"] = entry["fb_iou"][shot]
            track: Any = {**content["tracks"][paper], "encoder_data": content["encoder_data"].get(encoder)}
            row.tracks[shot] = track | {"train_shot": track["train_shot"].get(shot)}
        rows.append(row)
    return rows, omitted


def _as_table(rows: list[Row], columns: list[Column]) -> Table:
    """Return the rows as text, with marks, the notes that explain them, and the same in columns of CSV."""
    tracks = [in_words(row.tracks) for row in rows]
    letters, notes = _explained(rows)
    sources = list(dict.fromkeys(row.source for row in rows if row.source))
    doubts = [", ".join(dict.fromkeys(row.doubts.values())) for row in rows]
    leading = ["method", "protocol", *(["parameters M (learnt)"] if any(row.parameters for row in rows) else [])]
    groups = [*[""] * len(leading), *(f"{shot}-shot" for shot, _ in columns)]
    out = Table([*leading, *(_heading(c) for _, c in columns)], [], groups)
    for i, (row, track) in enumerate(zip(rows, tracks)):
        head = [row.method, row.protocol, row.parameters or "-"][: len(leading)]
        out.rows.append([*head, *(_cell(row, column) for column in columns)])
        source = f" [{sources.index(row.source) + 1}]" if row.source else ""
        out.marks[i, 0] = source + letters[track]
        for j, column in enumerate(columns, len(leading)):
            if column in row.cells and not row.source:
                spread = f" +- {row.spread[column]:.1f}" if column in row.spread else ""
                out.marks[i, j] = spread + MEASURED + (DOUBTFUL if column in row.doubts else "")
    origins = ["quoted" if row.source else f"measured ({why})" if why else "measured" for row, why in zip(rows, doubts)]
    out.facts = {"track": tracks, "origin": origins, "source": [row.source or "" for row in rows]}
    if any(row.spread for row in rows):
        names = dict(zip(columns, out.headings()[len(leading) :]))
        of_rows = [[f"{names[c]} {row.spread[c]:.2f}" for c in columns if c in row.spread] for row in rows]
        over = ["; ".join(f"{shot}-shot: {seeds}" for shot, seeds in row.seeds.items()) for row in rows]
        out.facts |= {"standard deviation": ["; ".join(texts) for texts in of_rows], "over": over}
        notes += [f"+-: standard deviation (population) over {seeds}." for seeds in dict.fromkeys(filter(None, over))]
    out.best = {(i, j) for j, column in enumerate(columns, len(leading)) for i in _best(rows, column)}
    out.ruled = {sum(row.source is not None for row in rows)} - {0}
    out.notes = [*notes, *(f"[{number}] {source}." for number, source in enumerate(sources, 1))]
    return out


def _heading(place: Any) -> str:
    if isinstance(place, tuple):
        return f"fold {place[0]} {_heading(place[1])}"
    names = SCORES | {"seconds": "s / episode"}
    return f"fold {place}" if isinstance(place, int) else names.get(place, place).removesuffix(" %")


def _cell(row: Row, column: Column) -> str:
    shown = ".3g" if column[1] == "seconds" else ".1f"
    return format(row.cells[column], shown) if column in row.cells else "-"


def _explained(rows: list[Row]) -> tuple[dict[str, str], list[str]]:
    """Return the mark of each track, '' if there is one, and the notes that explain doubtful cells and tracks."""
    names = (first + last for first in ("", *ascii_lowercase) for last in ascii_lowercase)
    tracks = dict.fromkeys(in_words(row.tracks) for row in rows)
    marks = {track: f" ({name})" if len(tracks) > 1 else "" for track, name in zip(tracks, names)}
    notes = [f"{mark.strip() or 'all'}: {track}." for track, mark in marks.items()]
    if doubts := ", ".join(dict.fromkeys(why for row in rows for why in row.doubts.values())):
        notes.insert(0, f"{DOUBTFUL} ({doubts}) not to be quoted as the protocol's number of this method.")
    return marks, notes


def _best(rows: list[Row], column: Column) -> list[int]:
    """Return the rows of a column's best cells, the largest or, of some scores, the smallest.

    They are the best among at least two of one protocol, encoder and track, on the same episodes; others are not
    comparable.
    """
    key = column[1][1] if isinstance(column[1], tuple) else column[1]
    best = min if key in SMALLER_IS_BETTER else max
    groups: dict[tuple, list[tuple[float, int]]] = {}
    for i, row in enumerate(rows):
        protocol = row.protocol.partition(" (")[0]
        if column in row.cells and protocol != NOT_STATED:
            group = protocol, row.encoder, in_words(row.tracks), row.doubts.get(column)
            groups.setdefault(group, []).append((float(_cell(row, column)), i))
    return [i for found in groups.values() if len(found) > 1 for value, i in found if value == best(found)[0]]


def _note(path: Path, result: dict[str, Any], output: str) -> str:
    """Return the line that says how a measured number was made."""
    spread = result["deviation"][output]["miou"]
    several = f", deviation over seeds {spread:.2f}" if len(result["seeds"]) > 1 else ""
    return (
        f"{row_name(result)}, {result['shot']}-shot, {result['dataset']} fold {result['fold']}: "
        f"{result['episodes']} episodes, seeds {', '.join(map(str, result['seeds']))}{several}; {result['input']}; "
        f"list {result['list'][:8]} of {result['list_images']}, weights {result['weights'][:8]}, "
        f"{result['date'][:10]}, {result['device']}: {path}"
    )
