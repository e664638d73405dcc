"""Manifests: files of episodes that one test writes and another replays, so that two systems score the same episodes.

A manifest is a file of JSON lines. The first line may be a header (``{"manifest": ..., "dataset", "folds", "fold_rule",
"fold", "shot", ...}``). Every other line is an episode: ``query`` (image name), ``class`` (1-based id) and ``supports``
(image names) are required; a test adds ``seed``, ``number`` and ``outputs`` (output -> ``[I, U, background I,
background U]`` in pixels). An episode with N ways has N - 1 ``others`` (``class`` and ``supports`` each), and its
counts are I, U of each class in ascending order, then those of the foreground (any class) and of the background. A
further metric of a test is a key of its own, output -> part and whole of each class.

In a kept manifest a line may be ``[I, U, pixels]`` of the prediction alone: of the episode that has its place in the
manifest of the folder above, which several results share.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from util.config.settings import DataSettings
from util.data.lists.image_list import ImageList
from util.data.sampling import EpisodeKey, ListedEpisodes, Sampler, problem_of
from util.files.digests import state_of
from util.files.errors import UserError, as_user_error
from util.files.reading import lines_of, read_text
from util.files.typecheck import Misfit, convert

MOST_PIXELS = 2**40  # of an image: sums of counts stay below 2**63
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
    above = path.absolute().parent.with_name(path.name)
    shared = cache(lambda: _shared(above, state_of(above)))
    for number, line in lines_of(read_text(path, "this manifest", "name the episodes.jsonl of a test")):
        try:
            row = json.loads(line)
            if isinstance(row, list):
                row = _counted(shared()[len(out.episodes)], *row)
            row = convert(dict, row, "the line")
            if "manifest" in row:
                out.header = {k: v for k, v in row.items() if k != "manifest"}
                continue
            row.setdefault("seed", 0)
            _check_types(row)
        except (ValueError, LookupError, TypeError, RecursionError, Misfit) as error:
            raise UserError(
                f"{path}:{number}: is no episode ({error!r})",
                fix="write JSON such as {'query': name, 'class': id, 'supports': [names]}",
            ) from None
        out.episodes.append(row)
        out.lines.append(number)
    if not out.episodes:
        raise UserError(f"{path}: this manifest holds no episode; name the episodes.jsonl of a test")
    return out


@lru_cache(maxsize=4)
def _shared(path: Path, state: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return the episodes of a manifest in a state, which several results share."""
    return read_manifest(path).episodes


def _counted(episode: dict[str, Any], intersection: int, union: int, pixels: int) -> dict[str, Any]:
    """Return an episode of one class with the counts of its prediction, from those of the class."""
    return {**episode, "outputs": {"final": [intersection, union, pixels - union, pixels - intersection]}}


def _check_types(row: dict[str, Any]) -> None:
    """Refuse an episode without query, class or supports (KeyError), or one with values of another type (Misfit)."""
    for key, kind in (("query", str), ("seed", int), ("number", int)):
        convert(kind, row[key] if key == "query" else row.get(key, 0), key)
    ways = (row, *row.get("others", ()))
    for way in ways:
        convert(int, way["class"], "class")
        convert(list[str], way["supports"], "supports")
    numbers = 2 * len(ways) + (2 if len(ways) == 1 else 4)
    for output, counts in convert(dict, row.get("outputs", {}), "outputs").items():
        if len(counts) != numbers or not all(type(count) is int and 0 <= count <= MOST_PIXELS for count in counts):
            raise Misfit(output, f"outputs.{output} must be {numbers} numbers of pixels")


def described(key: EpisodeKey, names: Sequence[str]) -> dict[str, Any]:
    """Return query, class, supports and, with several ways, the others of an episode as a manifest has them."""
    ways = []
    for class_id, supports in key.drawn:
        ways.append({"class": class_id, "supports": [names[row] for row in supports]})
    first, *others = ways
    episode = {"query": names[key.query], **first}
    if others:
        episode["others"] = others
    return episode


def digest(sampler: Sampler, episodes: int) -> str:
    """Return the hexadecimal SHA-256 of a sampler's first episodes, by image names."""
    names = sampler.images.index.names
    return digest_of_rows(described(sampler(number), names) for number in range(episodes))


def digest_of_rows(episodes: Iterable[dict[str, Any]]) -> str:
    """Return the hexadecimal SHA-256 of episodes as a manifest has them: queries, classes and supports."""
    out = hashlib.sha256()
    for episode in episodes:
        ways = [f"{class_id} {' '.join(supports)}" for class_id, supports in _drawn_ways(episode)]
        out.update(f"{' '.join([episode['query'], *ways])}\n".encode())
    return out.hexdigest()


def ways_of(episode: dict[str, Any]) -> list[tuple[int, list[str]]]:
    """Return class and supports of each way of an episode, by ascending class: the order of its counts."""
    return sorted(_drawn_ways(episode))


def counts_of(episode: dict[str, Any], output: str) -> list[tuple[int, int, int]]:
    """Return (class id, intersection, union) of each class of a manifest's episode, scored with that output."""
    counts = episode["outputs"][output]
    ways = [class_id for class_id, _ in ways_of(episode)]
    return [(class_id, *counts[2 * i : 2 * i + 2]) for i, class_id in enumerate(ways)]


def _drawn_ways(episode: dict[str, Any]) -> list[tuple[int, list[str]]]:
    """Return class and supports of each way of an episode, in the order in which they were drawn."""
    return [(way["class"], way["supports"]) for way in (episode, *episode.get("others", ()))]


def replay(path: Path, images: ImageList, data: DataSettings, ways: int = 1) -> dict[int, ListedEpisodes]:
    """Return a manifest's episodes by seed after checking them against the fold, its images and the number of shots.

    Args:
        path: the manifest.
        images: the test list of the fold.
        data: the data set, the fold and the number of shots of this test.
        ways: classes of an episode.

    Raises:
        UserError: another data set, fold, number of shots or of ways, a class that is not novel, an image that does not
            exist or does not show the class, or a query that is its own support; the message names the line.
    """
    manifest = read_manifest(path)
    for key in ("dataset", "folds", "fold_rule", "fold", "shot"):
        expected = data.name if key == "dataset" else getattr(data, key)
        stated = manifest.header.get(key, expected)
        if stated != expected:
            raise UserError(
                f"{path}: this manifest has {key} {stated}, this test has {key} {expected}",
                fix="name another manifest, or change the test",
            )
    rows = {name: row for row, name in enumerate(images.index.names)}
    seeds: dict[int, list[EpisodeKey]] = {}
    for line, episode in zip(manifest.lines, manifest.episodes, strict=True):
        keys = seeds.setdefault(episode["seed"], [])
        with as_user_error(KeyError, before=f"{path}:{line}: image ", after=f" is not in {data.root}/{data.test_list}"):
            found = _episode_key(len(keys), episode, rows)
        if problem := problem_of(found, images, data.shot, ways):
            raise UserError(f"{path}:{line}: this episode {problem}; take it out, or change the test")
        keys.append(found)
    return {seed: ListedEpisodes(images, seed, tuple(keys)) for seed, keys in seeds.items()}


def _episode_key(number: int, episode: dict[str, Any], rows: dict[str, int]) -> EpisodeKey:
    """Return an episode by the rows of its images; KeyError: one has none."""
    drawn = []
    for class_id, names in _drawn_ways(episode):
        drawn.append((class_id, tuple(rows[name] for name in names)))
    (class_id, supports), *others = drawn
    return EpisodeKey(number, rows[episode["query"]], class_id, supports, tuple(others))
