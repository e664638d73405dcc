"""Manifests: files of episodes that one test writes and another replays, so that two systems score the same episodes.

A manifest is a file of JSON lines. The first line may be a header (``{"manifest": ..., "dataset", "folds", "fold_rule",
"fold", "shot", ...}``). Every other line is an episode: ``query`` (image name), ``class`` (1-based id) and ``supports``
(image names) are required; a test adds ``seed``, ``number`` and ``outputs`` (output -> ``[I, U, background I,
background U]`` in pixels). An episode with N ways has N - 1 ``others`` (``class`` and ``supports`` each), and its
counts are I, U of each class in ascending order, then those of the foreground (any class) and of the background. A
further metric of a test is a key of its own, output -> part and whole of each class. The query of a protocol with
``absent`` need not show the class; ``presence`` is then the score that it does. In generalised segmentation the header
has the supports of each seed, ``runs`` (class and supports of every novel class), which its episodes need not repeat;
an output's counts are then class -> ``[I, U]``, of the classes that occur, 0 for the background.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from util.config.settings import DataSettings
from util.data.lists.image_list import ImageList
from util.data.sampling import EpisodeKey, ListedEpisodes, Sampler
from util.errors import UserError
from util.files import read_text

WITH_REPLACEMENT = "with_replacement"  # the header's "supports" where one image may be drawn twice


@dataclass
class Manifest:
    """Content of a manifest file: its header (empty if it has none) and its episodes, as plain data."""

    header: dict[str, Any] = field(default_factory=dict)
    episodes: list[dict[str, Any]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)  # line number of each episode

    def text(self) -> str:
        """Return the content of the file."""
        rows = [{"manifest": "sym-net-manifest/1", **self.header}, *self.episodes]
        return "".join(json.dumps(row) + "\n" for row in rows)


def read_manifest(path: Path) -> Manifest:
    """Return the content of a manifest file; UserError if it is missing, holds no episode, or a line is none."""
    out = Manifest()
    text = read_text(path, "this manifest", "name the episodes.jsonl of a test")
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if "manifest" in row:
                out.header = {k: v for k, v in row.items() if k != "manifest"}
                continue
            if "class" not in row and "runs" in out.header:
                row |= out.header["runs"][str(row.get("seed", 0))]
            row["query"], ways_of(row)
        except (ValueError, KeyError, TypeError) as error:
            form = "{'query': name, 'class': id, 'supports': [names]}"
            raise UserError(f"{path}:{number}: no episode {form} in JSON ({error!r})") from None
        out.episodes.append(row)
        out.lines.append(number)
    if not out.episodes:
        raise UserError(f"{path}: this manifest holds no episode; name the episodes.jsonl of a test")
    return out


def described(key: EpisodeKey, names: Sequence[str]) -> dict[str, Any]:
    """Return query, class, supports and, with several ways, the others of an episode as a manifest has them."""
    first, *others = ({"class": c, "supports": [names[s] for s in supports]} for c, supports in key.drawn)
    return {"query": names[key.query], **first, **({"others": others} if others else {})}


def digest(sampler: Sampler, episodes: int) -> str:
    """Return the hexadecimal SHA-256 of a sampler's first episodes, by image names."""
    keys = sampler.keys[:episodes] if isinstance(sampler, ListedEpisodes) else map(sampler, range(episodes))
    return digest_of_rows(described(key, sampler.images.index.names) for key in keys)


def digest_of_rows(episodes: Iterable[dict[str, Any]]) -> str:
    """Return the hexadecimal SHA-256 of episodes as a manifest has them: queries, classes and supports."""
    out = hashlib.sha256()
    for episode in episodes:
        ways = [f"{class_id} {' '.join(supports)}" for class_id, supports in _drawn_ways(episode)]
        out.update((" ".join([episode["query"], *ways]) + "\n").encode())
    return out.hexdigest()


def ways_of(episode: dict[str, Any]) -> list[tuple[int, list[str]]]:
    """Return class and supports of each way of an episode, by ascending class: the order of its counts."""
    return sorted(_drawn_ways(episode))


def _drawn_ways(episode: dict[str, Any]) -> list[tuple[int, list[str]]]:
    """Return class and supports of each way of an episode, in the order in which they were drawn."""
    return [(way["class"], way["supports"]) for way in (episode, *episode.get("others", ()))]


def replay(
    path: Path, images: ImageList, data: DataSettings, ways: int = 1, absent: bool = False
) -> dict[int, ListedEpisodes]:
    """Return a manifest's episodes by seed after checking them against the fold, its images and the number of shots.

    UserError: another data set, fold, number of shots or of ways, a class that is not novel, an image that does not
    exist or does not show the class, or a query that is its own support; the message names the line.
    """
    manifest = read_manifest(path)
    for key in ("dataset", "folds", "fold_rule", "fold", "shot"):
        want = data.name if key == "dataset" else getattr(data, key)
        if manifest.header.get(key, want) != want:
            raise UserError(f"{path}: this manifest has {key} {manifest.header[key]}, this test has {key} {want}")
    rows = {name: row for row, name in enumerate(images.index.names)}
    seeds: dict[int, list[EpisodeKey]] = {}
    for line, episode in zip(manifest.lines, manifest.episodes, strict=True):
        keys = seeds.setdefault(episode.get("seed", 0), [])
        if problem := _problem(episode, images, data, rows, ways, absent):
            raise UserError(f"{path}:{line}: {problem}")
        (class_id, supports), *others = ((c, tuple(rows[s] for s in its)) for c, its in _drawn_ways(episode))
        keys.append(EpisodeKey(len(keys), rows[episode["query"]], class_id, supports, tuple(others)))
    return {seed: ListedEpisodes(images, seed, tuple(keys)) for seed, keys in seeds.items()}


def _problem(
    episode: dict[str, Any], images: ImageList, data: DataSettings, rows: dict[str, int], ways: int, absent: bool
) -> str | None:
    """Return in words why an episode is none of this test; None if it is."""
    query, drawn = episode["query"], _drawn_ways(episode)
    if not len({class_id for class_id, _ in drawn}) == len(drawn) == ways:
        return f"this episode has {len(drawn)} classes, the protocol has {ways} different ones (ways)"
    for number, (class_id, supports) in enumerate(drawn):
        if class_id not in images.classes:
            novel = ", ".join(f"{c} ({data.classes[c - 1]})" for c in images.classes)
            return f"class {class_id} is not novel in fold {data.fold}; novel are {novel}"
        if len(supports) != data.shot:
            return f"{len(supports)} supports, this test has {data.shot} shots; give --shot {len(supports)}"
        if query in supports:
            return f"the query '{query}' is among its own supports"
        if lost := [name for name in (query, *supports) if name not in rows]:
            return f"image '{lost[0]}' is not in {data.root}/{data.test_list}"
        shown = supports if absent or number else [query, *supports]
        if bare := [name for name in shown if not images.index.areas[rows[name], class_id]]:
            return f"'{bare[0]}' shows no pixel of class {class_id} ({data.classes[class_id - 1]})"
    return None
