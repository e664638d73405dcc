"""The paper's tables from result files: folds, mean and FB-IoU beside published rows, and the IoU of each class."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from string import ascii_lowercase
from typing import Any

import yaml

from util.config.settings import EDGES
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
from util.report.scores import BASE, FINAL, NETWORK
from util.report.table import Table

PUBLISHED = Path(__file__).with_name("published.yaml")
MEASURED, DOUBTFUL = "*", "?"  # marks of cells
CROSS_DOMAIN = {"fss1000", "deepglobe", "isic", "chestxray"}  # whose mean the published rows of the benchmark are
Results = dict[Path, dict[str, Any]]
Column = tuple[int, Any]  # number of shots; a fold, a data set, ``mean``, a score's key, or (fold, class or score)


@dataclass
class Row:
    """The cells of a method: measured here, or published in ``source``."""

    method: str
    protocol: str
    source: str | None
    cells: dict[Column, float] = field(default_factory=dict)
    doubts: dict[Column, str] = field(default_factory=dict)  # reason why a cell is not the protocol's number
    tracks: dict[int, Track] = field(default_factory=dict)  # by number of shots


def table(paths: list[Path], output: str = FINAL, protocol: str | None = None, across: bool = False) -> Table:
    """Return the table of all results below some paths; a column without a number is left out.

    Args:
        across: columns are data sets, as in the cross-domain benchmark, and not folds of one.

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
    columns = [(shot, c) for shot in shots for c in (*shown, *of_one, "mean", *scores)]
    quoted, omitted = published_rows(quoted_from, shots, first["fold_rule"], first["folds"] if whole else None)
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
    _check(results, across)
    return results, [f"omitted: {path}, scored with weights of another fold." for path in elsewhere]


def _cell_of(result: dict[str, Any]) -> tuple:
    """Return the key of a result's cell in the table."""
    return _method(result), result["protocol"], result["shot"], result["dataset"], result["fold"]


def _method(result: dict[str, Any]) -> str:
    """Return the row's name: method, encoder, other words of the run's name, weights unless the best, averaging."""
    backbone = str(result["backbone"])
    forms = backbone, backbone.replace("/", "-"), backbone.replace("/", "--")  # in names of runs
    known = re.split("[_/]", "_".join((result["dataset"], result["model"], *forms)))
    words = [w for w in result["run"].split("_") if w not in known and not re.fullmatch(r"split\d+", w)]
    name = ", ".join(filter(None, [f"{result['method']} {result['encoder']}".strip(), " ".join(words)]))
    mark = result["weights_mark"]
    if mark == "foreign":
        trained_elsewhere = result["config"].get("test", {}).get("trained_on")
        place = re.sub(r"split\d+", "split", "/".join(Path(result["checkpoint"]).parts[-3:]))  # folds share a row
        mark = "" if trained_elsewhere else place
    return name + (f" ({mark})" if mark else "") + (f", {passes_in_words(result)}" if result["averaged"] else "")


def _check(results: Results, across: bool) -> None:
    """Refuse results that differ where a table, a column or a row holds one."""
    seen: dict[tuple, tuple[Path, Any]] = {}
    for path, r in results.items():
        method, _, shot, dataset, fold = cell = _cell_of(r)
        if cell in seen:
            raise UserError(
                f"{seen[cell][0]} and {path} are both {method}, {shot}-shot, fold {fold}; name only one of them"
            )
        seen[cell] = path, None
        terms = {
            ("data set",): across or dataset,
            ("protocol",): protocol_title(r),
            ("number of folds",): across or r["folds"],
            ("protocol settings",): {k: v for k, v in r["protocol_settings"].items() if k != "list_file"},
            ("data.min_pixels",): across or r["min_pixels"],
            ("test list", dataset, fold, shot): r["list"],  # shots decide it where rare classes are skipped
            ("track", method, shot): in_words({shot: r["track"]}),
        }
        for key, value in terms.items():
            before, other = seen.setdefault(key, (path, value))
            if other != value:
                raise UserError(
                    f"{before} and {path} differ in {key[0]} ({other}; {value}): one column, or row, holds one; "
                    "name fewer runs, or choose with --protocol"
                )


def _measured_rows(results: Results, output: str, places: list[Any], by: str) -> list[Row]:
    """Return the rows of our own results; mean and FB-IoU are cells only if all folds, or data sets, are there."""
    rows: dict[str, Row] = {}
    found: dict[tuple[str, int], list[dict[str, float]]] = {}  # the scores of a row and number of shots
    made: dict[tuple[str, int], list] = {}  # and how
    for path, r in results.items():
        if output not in r["mean"]:
            raise UserError(f"{path}: output '{output}' is unknown{nearest(output, r['mean'])}")
        method, shot, scores = _method(r), r["shot"], r["mean"][output]
        row = rows.setdefault(method, Row(method, protocol_title(r), None))
        own = {r[by]: scores["miou"]} | {(r[by], key): score for key, score in scores.items()}
        own |= {(r[by], name): iou for name, iou in class_ious(r, output).items()}
        row.cells |= {(shot, c): value for c, value in own.items()}
        row.tracks[shot] = r["track"]
        if why := ", ".join(why for why in departures(r) if why != AVERAGED):
            row.doubts |= {(shot, c): why for c in (*own, *scores, "mean")}
        of_row, how = found.setdefault((method, shot), []), made.setdefault((method, shot), [])
        of_row.append(scores)
        how.append(_made(r))
        if len(of_row) == len(places):
            if any(one != how[0] for one in how):
                row.doubts |= dict.fromkeys([(shot, c) for c in (*scores, "mean")], "made with different settings")
            everywhere = set(scores).intersection(*of_row)  # scores of all of them
            row.cells |= {(shot, key): fmean(s[key] for s in of_row) for key in everywhere}
            row.cells[shot, "mean"] = row.cells[shot, "miou"]
    return list(rows.values())


def _made(result: dict[str, Any]) -> list[Any]:
    """Return how a result was trained and tested, but for the fold, the seed and the start of the encoder."""
    stages, model = result["training"], result["config"].get("model", {})
    start = ("weights", "partial", "pretraining")
    encoder = {key: value for key, value in (model.get("encoder") or {}).items() if key not in start}
    of_stages = [(s["batch"], s["size"], {k: v for k, v in s["settings"].items() if k != "list_file"}) for s in stages]
    train_list = (result["trained_with"] or {}).get("train_list")
    return [of_stages, train_list, model | {"encoder": encoder}, result["size"], result["text"]]


def published_rows(
    dataset: str, shots: list[int], fold_rule: str, generalised: int | None = None
) -> tuple[list[Row], list[str]]:
    """Return the published rows, and notes on those that are omitted because their folds differ.

    ``generalised``: only those of generalised segmentation on so many folds; None: none of them.
    """
    content = yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))
    rows, omitted = [], list[str]()
    for entry in [*content["rows"], *content["foundation"]]:
        paper, encoder = entry["paper"], entry["encoder"]
        known_shots = [shot for shot in shots if shot in entry["miou"]]
        if entry["dataset"] != dataset or not known_shots or entry.get("generalised") != generalised:
            continue
        name = ", ".join(filter(None, [f"{paper} {encoder}", entry.get("variant")]))
        protocol, rule = entry["protocol"] or NOT_STATED, entry.get("fold_rule", fold_rule)
        if rule not in (None, fold_rule):
            omitted.append(f"omitted: {name} by {protocol}, published on other folds ({rule}).")
            continue
        if "fold_rule" in entry:
            protocol += f" ({rule or 'unstated'} folds)"
        row = Row(name, protocol, content["papers"][paper])
        for shot in known_shots:
            *folds, row.cells[shot, "mean"] = entry["miou"][shot]
            row.cells |= {(shot, fold): miou for fold, miou in enumerate(folds)}
            for key in ("base", "novel") if generalised else ():
                *folds, row.cells[shot, key] = entry[key][shot]
                row.cells |= {(shot, (fold, key)): value for fold, value in enumerate(folds)}
            if "fb_iou" in entry:
                row.cells[shot, "fb_iou"] = entry["fb_iou"][shot]
            known: Any = {**content["tracks"][paper], "encoder_data": content["encoder_data"].get(encoder)}
            row.tracks[shot] = known | {"train_shot": known["train_shot"].get(shot)}
        rows.append(row)
    return rows, omitted


def _as_table(rows: list[Row], columns: list[Column]) -> Table:
    """Return the rows as text, with marks, the notes that explain them, and the same in columns of CSV."""
    tracks = [in_words(row.tracks) for row in rows]
    letters, notes = _explained(rows)
    sources = list(dict.fromkeys(row.source for row in rows if row.source))
    doubts = [", ".join(dict.fromkeys(row.doubts.values())) for row in rows]
    out = Table(
        ["method", "protocol", *(_heading(c) for _, c in columns)],
        [],
        ["", "", *(f"{shot}-shot" for shot, _ in columns)],
    )
    for i, (row, track) in enumerate(zip(rows, tracks)):
        out.rows.append([row.method, row.protocol, *(_cell(row, column) for column in columns)])
        source = f" [{sources.index(row.source) + 1}]" if row.source else ""
        out.marks[i, 0] = source + letters[track]
        for j, column in enumerate(columns, 2):
            if column in row.cells and not row.source:
                out.marks[i, j] = MEASURED + (DOUBTFUL if column in row.doubts else "")
    origins = ["quoted" if row.source else f"measured ({why})" if why else "measured" for row, why in zip(rows, doubts)]
    out.facts = {"track": tracks, "origin": origins, "source": [row.source or "" for row in rows]}
    out.best = {(i, j) for j, column in enumerate(columns, 2) for i in _best(rows, column)}
    out.ruled = {sum(row.source is not None for row in rows)} - {0}
    out.notes = [*notes, *(f"[{number}] {source}." for number, source in enumerate(sources, 1))]
    return out


def _heading(place: Any) -> str:
    if isinstance(place, tuple):
        return f"fold {place[0]} {_heading(place[1])}"
    return f"fold {place}" if isinstance(place, int) else SCORES.get(place, place).removesuffix(" %")


def _cell(row: Row, column: Column) -> str:
    return f"{row.cells[column]:.1f}" if column in row.cells else "-"


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
    """Return the rows of a column's best cells among at least two of one protocol and track, on the same episodes.

    Others are not comparable.
    """
    groups: dict[tuple, list[tuple[float, int]]] = {}
    for i, row in enumerate(rows):
        protocol = row.protocol.partition(" (")[0]
        if column in row.cells and protocol != NOT_STATED:
            key = protocol, in_words(row.tracks), row.doubts.get(column)
            groups.setdefault(key, []).append((round(row.cells[column], 1), i))
    return [i for found in groups.values() if len(found) > 1 for value, i in found if value == max(found)[0]]


def _note(path: Path, result: dict[str, Any], output: str) -> str:
    """Return the line that says how a measured number was made."""
    spread = result["deviation"][output]["miou"]
    several = f", deviation over seeds {spread:.2f}" if len(result["seeds"]) > 1 else ""
    return (
        f"{_method(result)}, {result['shot']}-shot, {result['dataset']} fold {result['fold']}: "
        f"{result['episodes']} episodes, seeds {', '.join(map(str, result['seeds']))}{several}; {result['input']}; "
        f"list {result['list'][:8]} of {result['list_images']}, weights {result['weights'][:8]}, "
        f"{result['date'][:10]}, {result['device']}: {path}"
    )
