"""Manifests: written, read back to the same episodes, and refused with the line where something is wrong."""

import json
from pathlib import Path

import pytest

from util.data.lists.manifest import Manifest, described, digest, replay
from util.data.sampling import EpisodeSampler
from util.files.errors import UserError

EPISODE = {"query": "a", "class": 1, "supports": ["b"]}
OTHER = [("fold", 2), ("dataset", "pascal"), ("shot", 1)]  # than the test's


@pytest.fixture
def context(mini_data, mini_lists):
    return mini_lists(shot=2)[2], mini_data(shot=2)


def rows_of(images, seeds=(0, 7)) -> list[dict]:
    samplers = {seed: EpisodeSampler(images, "sequential", 2, seed) for seed in seeds}
    return [{"seed": s, **described(samplers[s](n), images.index.names)} for s in seeds for n in range(5)]


def write(path: Path, rows: list[dict], **header: object) -> Path:
    path.write_text(Manifest(header, rows).text())
    return path


def test_a_replay_gives_the_episodes_that_were_written(context, tmp_path: Path):
    images, data = context
    replayed = replay(write(tmp_path / "m.jsonl", rows_of(images), dataset="mini", fold=0), images, data)
    assert list(replayed) == [0, 7]
    for seed, episodes in replayed.items():
        sampler = EpisodeSampler(images, "sequential", 2, seed)
        assert [*map(episodes, range(5))] == [*map(sampler, range(5))]
        for number in (5, 3):
            assert digest(episodes, number) == digest(sampler, number)


def test_a_manifest_by_hand_needs_no_header_and_no_seed(context, tmp_path: Path):
    images, data = context
    rows = rows_of(images, (0,))
    for row in rows:
        del row["seed"]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    replayed = replay(tmp_path / "m.jsonl", images, data)
    assert {seed: len(episodes.keys) for seed, episodes in replayed.items()} == {0: 5}


def test_several_ways_are_replayed_and_a_wrong_one_is_named(context, tmp_path: Path):
    images, data = context
    path = tmp_path / "m.jsonl"
    sampler = EpisodeSampler(images, "sequential", 2, 0, ways=2)
    rows = [described(sampler(n), images.index.names) for n in range(5)]
    replayed = replay(write(path, rows), images, data, ways=2)
    assert [*map(replayed[0], range(5))] == [*map(sampler, range(5))]
    (other,) = rows[3]["others"]
    for class_id, said in ((rows[3]["class"], "has the classes"), (7, "is of class 7, not one of the list")):
        other["class"] = class_id
        with pytest.raises(UserError, match=f"m.jsonl:5: this episode {said}"):
            replay(write(path, rows), images, data, ways=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": "mini_0000"}, "image 'mini_0000' is not in"),
        ({"supports": ["{query}", "{query}"]}, "this episode has its query .* among its own supports"),
        ({"class": 5}, r"this episode is of class 5, not one of the list, \[1, 2\]"),
        ({"supports": ["{bare}"]}, "this episode has 1 supports, not 2 "),
        ({"query": "{bare}"}, "this episode shows no pixel of class"),
        ({"supports": ["{bare}", "{bare}"]}, "this episode shows no pixel of class"),
    ],
)
def test_a_wrong_line_is_named(context, tmp_path: Path, change: dict, message: str):
    images, data = context
    rows = rows_of(images)
    wrong = rows[3]
    areas = images.index.areas[:, wrong["class"]]
    words = {"query": wrong["query"], "bare": images.index.names[areas.argmin()]}
    wrong |= change
    wrong["query"] = wrong["query"].format(**words)
    wrong["supports"] = [name.format(**words) for name in wrong["supports"]]
    with pytest.raises(UserError, match=rf"m.jsonl:5: {message}"):  # the header is line 1
        replay(write(tmp_path / "m.jsonl", rows), images, data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{'query'\n", "m.jsonl:1: is no episode"),
        ('{"query": "a", "class": 1}\n', "m.jsonl:1: is no episode"),
        ("3\n", "m.jsonl:1: is no episode"),
        (Manifest({}, []).text(), "m.jsonl: this manifest holds no episode"),
        *(
            (Manifest({key: value}, [EPISODE]).text(), f"has {key} {value}, this test has {key}")
            for key, value in OTHER
        ),
    ],
)
def test_other_lines_and_headers_are_named(context, tmp_path: Path, text: str, message: str):
    path = tmp_path / "m.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        replay(path, *context)
