"""Manifests: files of episodes that one test writes and another replays, so that two systems score the same episodes.

A manifest is a file of JSON lines. The first line may be a header (``{"manifest": ..., "dataset", "folds", "fold_rule",
"fold", "shot", ...}``). Every other line is an episode: ``query`` (image name), ``class`` (1-based id) and ``supports``
(image names) are required; a test adds ``seed``, ``number`` and ``outputs`` (output -> ``[I, U, background I,
background U]`` in pixels). An episode with N ways has N - 1 ``others`` (``class`` and ``supports`` each), and its
counts are I, U of each class in ascending order, then those of the foreground (any class) and of the background. The
query of a protocol with ``absent`` need not show the class; ``presence`` is then the score that it does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from util.config.settings import DataSettings
from util.data.lists.image_list import ImageList
from util.data.sampling import EpisodeKey, digest, digest_of_ways
from util.errors import UserError, nearest
from util.files import read_text

FORMAT = "sym-net-manifest/1"
WITH_REPLACEMENT = "with_replacement"  # the header's "supports" where one image may be drawn twice
IDENTITY = ("dataset", "folds", "fold_rule", "fold")  # keys of the header that must equal the settings of a replay


@dataclass
class Manifest:
    """Content of a manifest file: its header (empty if it has none) and its episodes, as plain data."""

    header: dict[str, Any] = field(default_factory=dict)
    episodes: list[dict[str, Any]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)  # line number of each episode

    def text(self) -> str:
        """Return the content of the file."""
        rows = [{"manifest": FORMAT, **self.header}, *self.episodes]
        return "".join(json.dumps(row) + "\n" for row in rows)


@dataclass(frozen=True)
class ListedEpisodes:
    """Sampler that returns the episodes of one seed of a manifest by number."""

    images: ImageList
    seed: int
    keys: tuple[EpisodeKey, ...]

    def __call__(self, number: int) -> EpisodeKey:
        """Return episode ``number`` of the manifest's episodes of this seed."""
        return self.keys[number]

    def digest(self, episodes: int) -> str:
        """Return the hexadecimal SHA-256 of the first episodes, by image names."""
        return digest(self.images.index.names, self.keys[:episodes])


def read_manifest(path: Path) -> Manifest:
    """Return the content of a manifest file after checking the form of each line.

    Raises:
        UserError: the file is missing, or a line is not an episode.
    """
    text = read_text(path, "this manifest", "name the episodes.jsonl of a test")
    out = Manifest()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(
                f"{path}:{number}: not a line of JSON ({error}); a manifest has one episode per line"
            ) from None
        if isinstance(row, dict) and "manifest" in row and not out.episodes and not out.header:
            if row["manifest"] != FORMAT:
                raise UserError(f"{path}:{number}: manifest format {row['manifest']!r} is unknown; expected {FORMAT!r}")
            out.header = {k: v for k, v in row.items() if k != "manifest"}
            continue
        problem = _episode_problem(row)
        if problem:
            raise UserError(
                f"{path}:{number}: {problem}; an episode is {{'query': name, 'class': id, 'supports': [names]}}"
            )
        out.episodes.append(row)
        out.lines.append(number)
    return out


def described(key: EpisodeKey, names: Sequence[str]) -> dict[str, Any]:
    """Return query, class, supports and, with several ways, the others of an episode as a manifest has them."""
    row: dict[str, Any] = {
        "query": names[key.query],
        "class": key.class_id,
        "supports": [names[s] for s in key.supports],
    }
    if key.others:
        row["others"] = [{"class": c, "supports": [names[s] for s in supports]} for c, supports in key.others]
    return row


def digest_of_rows(episodes: Sequence[dict[str, Any]]) -> str:
    """Return the hexadecimal SHA-256 of episodes as a manifest has them; see ``sampling.digest``."""
    return digest_of_ways([(e["query"], [(e["class"], e["supports"]), *_others(e)]) for e in episodes])


def _others(episode: dict[str, Any]) -> list[tuple[int, list[str]]]:
    return [(way["class"], way["supports"]) for way in episode.get("others", ())]


def ways_of(episode: dict[str, Any]) -> list[tuple[int, list[str]]]:
    """Return class and supports of each way of an episode, by ascending class: the order of its counts."""
    return sorted((way["class"], way["supports"]) for way in (episode, *episode.get("others", ())))


def _episode_problem(row: Any) -> str | None:
    if not isinstance(row, dict):
        return "not an episode"
    if type(row.get("query")) is not str:
        return "'query' is missing or not str"
    if type(row.get("seed", 0)) is not int:
        return "'seed' is not int"
    others = row.get("others", [])
    if not isinstance(others, list) or not all(isinstance(way, dict) for way in others):
        return "'others' is not a list of classes with supports"
    for way in (row, *others):
        for key, kind in (("class", int), ("supports", list)):
            if type(way.get(key)) is not kind:
                return f"'{key}' is missing or not {kind.__name__}"
        if not way["supports"] or not all(isinstance(s, str) for s in way["supports"]):
            return "'supports' must be image names"
    if len({way["class"] for way in (row, *others)}) <= len(others):
        return "a class occurs twice"
    return None


def replay(
    path: Path, images: ImageList, data: DataSettings, ways: int = 1, absent: bool = False
) -> dict[int, ListedEpisodes]:
    """Return a manifest's episodes by seed after checking them against the fold, its images and the number of shots.

    Raises:
        UserError: another data set, fold, number of shots or of ways, a class that is not novel, an image that does not
            exist or does not show the class, or a query that is its own support; the message names the line.
    """
    manifest = read_manifest(path)
    for key in IDENTITY:
        want = data.name if key == "dataset" else getattr(data, key)
        if key in manifest.header and manifest.header[key] != want:
            raise UserError(
                f"{path}: this manifest has {key} {manifest.header[key]}, this test has {key} {want}; "
                "test with a config of the same data set and fold"
            )
    if manifest.header.get("shot", data.shot) != data.shot:
        raise UserError(
            f"{path}: this manifest has {manifest.header['shot']} shots, this test has {data.shot}; "
            f"give --shot {manifest.header['shot']}"
        )
    rows = {name: row for row, name in enumerate(images.index.names)}
    seeds: dict[int, list[EpisodeKey]] = {}
    for line, episode in zip(manifest.lines, manifest.episodes, strict=True):
        keys = seeds.setdefault(episode.get("seed", 0), [])
        where, every = f"{path}:{line}", (episode, *episode.get("others", ()))
        if len(every) != ways:
            raise UserError(
                f"{where}: this episode has {len(every)} way(s), the protocol has {ways}; name a protocol with "
                f"ways: {len(every)}"
            )
        first, *others = (
            _key(
                where, {**way, "query": episode["query"]}, len(keys), images, data, rows, way is episode and not absent
            )
            for way in every
        )
        keys.append(replace(first, others=tuple((other.class_id, other.supports) for other in others)))
    return {seed: ListedEpisodes(images, seed, tuple(keys)) for seed, keys in seeds.items()}


def _key(
    where: str,
    episode: dict[str, Any],
    number: int,
    images: ImageList,
    data: DataSettings,
    rows: dict[str, int],
    required: bool,
) -> EpisodeKey:
    """Return one way of an episode; ``required``: its query must show the class."""
    class_id, names = episode["class"], [episode["query"], *episode["supports"]]
    if class_id not in images.classes:
        novel = ", ".join(f"{c} ({data.classes[c - 1]})" for c in images.classes)
        raise UserError(f"{where}: class {class_id} is not novel in fold {data.fold}; novel are {novel}")
    if len(episode["supports"]) != data.shot:
        raise UserError(
            f"{where}: {len(episode['supports'])} supports, this test has {data.shot} shots; "
            f"give --shot {len(episode['supports'])}"
        )
    for name in names:
        if name not in rows:
            hint = nearest(name, rows) if len(rows) < 10**4 else ""
            hint = hint if "did you mean" in hint else ""
            raise UserError(f"{where}: image '{name}' is not in {data.root}/{data.test_list}{hint}")
    if episode["query"] in episode["supports"]:
        raise UserError(f"{where}: the query '{episode['query']}' is among its own supports")
    for name in names if required else names[1:]:
        if not images.index.areas[rows[name], class_id]:
            raise UserError(f"{where}: '{name}' shows no pixel of class {class_id} ({data.classes[class_id - 1]})")
    query, *supports = (rows[n] for n in names)
    return EpisodeKey(number, query, class_id, tuple(supports))
