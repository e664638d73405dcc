"""The test command: protocols and shots in one go, the same integers everywhere, replays, folds, published lists."""

from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.evaluate.quick import FEW, PROTOTYPE, QUICK, SYMNET, lines, new_checkpoint, quick_config
from tests.helpers import spawned
from tests.helpers.scored import score
from util.config.folds import Fold
from util.config.read import read_config
from util.config.settings import Config
from util.data.lists import list_files
from util.data.lists.image_list import test_list as novel_list
from util.data.lists.index import load_index
from util.evaluate import evaluate
from util.evaluate.evaluation import Evaluation
from util.evaluate.schema import RESULT, read_result
from util.evaluate.titles import title
from util.files.errors import UserError
from util.loop.score import score as score_by_loop
from util.report.compare import compare
from util.run.run import Run
from util.weights import checkpoint

pytestmark = pytest.mark.train


@pytest.fixture
def config(mini_yaml):
    """Return a function that gives a config over the tiny data set, with overrides."""
    return partial(quick_config, mini_yaml)


@pytest.mark.process
def test_batch_size_and_processes_change_no_integer(mini_yaml, tmp_path: Path):
    """Two protocols by one and by four in this process, by two in two processes; five episodes do not divide."""
    names = ("bam", "hsnet")  # on labels of the photos' shape, and of another side than the network's
    test = QUICK | {"episodes": 5, "seeds": [0], "metrics": ["boundary_iou"]}
    path = mini_yaml(SYMNET, run={"seed": 1}, test=test)

    def counts() -> list[tuple]:
        return [counts_of(tmp_path / f"runs/tiny/test/{name}_untrained_quick") for name in names]

    score(read_config(path, ["test.batch=1"]), names)
    one_by_one = counts()
    assert min(different_counts(episodes) for episodes, _, _ in one_by_one) > 2
    score(read_config(path, ["test.batch=4"]), names)
    assert counts() == one_by_one
    words = ("--protocol", ",".join(names), "--set", "test.batch=2", "--overwrite")
    first, second = spawned.start_ranks(2, "test.py", path, *words)
    assert (first.code, second.code) == (0, 0), first.stderr[-2000:] + second.stderr[-2000:]
    printed = first.stdout + first.stderr + second.stdout + second.stderr
    assert printed.count("result: ") == len(names)  # reported once
    assert read_result(tmp_path / "runs/tiny/test/bam_untrained_quick" / RESULT)["processes"] == 2
    assert counts() == one_by_one


def different_counts(episodes: list[dict]) -> int:
    return len({str(episode["outputs"]["final"]) for episode in episodes})


def counts_of(folder: Path) -> tuple[list[dict], list[dict], list[str]]:
    """Return the episodes of a result with their counts, its scores and its digests."""
    result = read_result(folder / RESULT)
    return lines(folder), result["per_seed"], result["episode_digests"]


def test_protocols_together_equal_each_in_a_test_of_its_own(config):
    one_draw = "protocols.symnet.draw=pfenet"
    together = score(config(PROTOTYPE, "data.workers=1", one_draw), ("symnet", "bam", "hdmnet", "ssp"))
    symnet, bam, _, ssp = together
    assert symnet["episode_digests"] == bam["episode_digests"] != ssp["episode_digests"]
    for result in (bam, ssp):
        (separate,) = score(config(), (result["protocol"],))
        assert separate["per_seed"] == result["per_seed"]
    assert len({result["mean"]["final"]["miou"] for result in together}) == 4


def test_each_number_of_shots_has_a_result_whose_episodes_are_replayed(config, tmp_path: Path):
    """Replayed by the same protocol the counts are the same; by another they are of the same episodes."""
    folder = tmp_path / "runs/tiny/test"
    one_shot, two_shots = score(config(), shots=(1, 2))
    assert (one_shot["shot"], two_shots["shot"]) == (1, 2)
    two_shot_folder = tmp_path / "runs/tiny/test_2shot/symnet_quick"
    assert read_result(folder / "symnet_quick" / RESULT) == one_shot
    assert read_result(two_shot_folder / RESULT) == two_shots
    assert {len(episode["supports"]) for episode in lines(two_shot_folder)} == {2}
    file = folder / "symnet_quick/episodes.jsonl"
    with pytest.raises(UserError, match=r"episode\.jsonl"):  # its own episodes would be others
        score(config(), manifest=file.with_name("episode.jsonl"))
    check_replays(config, folder, file)


def check_replays(config, folder: Path, file: Path) -> None:
    """Check a replay of symnet's episodes by its own protocol and by one that scores them at another size."""
    text = file.read_text()
    replayed, squeezed = score(config(), ("symnet", "hsnet"), manifest=file)
    assert lines(folder / "symnet_quick") == lines(folder / "symnet_replay")
    assert (replayed["replayed"], replayed["quick_look"]) == (str(file), False)
    assert replayed["episode_digests"] == squeezed["episode_digests"]
    assert "A - B = +0.00 mIoU" in str(compare(folder / "symnet_quick", folder / "symnet_replay"))
    assert "14 paired episodes" in str(compare(file.parent, folder / "hsnet_replay"))
    assert file.read_text() == text  # neither a replay nor a comparison changes it


def test_one_shot_has_its_result_when_the_next_begins(config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stop_before_two_shots(*arguments, title: str, **options) -> None:
        if "2-shot" in title:
            raise KeyboardInterrupt
        score_by_loop(*arguments, title=title, **options)

    monkeypatch.setattr(evaluate, "score", stop_before_two_shots)
    with pytest.raises(KeyboardInterrupt):
        score(config(), shots=(1, 2))
    folder = tmp_path / "runs/tiny"
    assert read_result(folder / "test/symnet_quick" / RESULT)["seeds"] == [0, 1]
    assert not (folder / "test_2shot/symnet_quick" / RESULT).exists()


def folder_of(config: Config, protocol: str) -> Path:
    return Evaluation(config, protocol).folder


def test_a_test_that_fails_while_it_writes_leaves_no_result(config, monkeypatch: pytest.MonkeyPatch):
    """Neither the old one nor a new one beside files that are not its own."""
    score(config(PROTOTYPE, *FEW))
    path = folder_of(config(PROTOTYPE, *FEW), "symnet") / RESULT
    assert path.exists()
    monkeypatch.setattr(evaluate, "score_line", None)  # which fails as a full disk does
    with pytest.raises(TypeError):
        score(config(PROTOTYPE, *FEW))
    assert not path.exists()


def test_the_moving_average_of_an_unfinished_training_is_scored(config, tmp_path: Path):
    path = new_checkpoint(config(SYMNET), tmp_path / "half/last.pth")
    content = checkpoint.read(path).entries | {"schedule": {"steps": 8}, "progress": {"step": 2}}
    weights = content["weights"]
    average = {"decoder.head.classify.weight": weights["decoder.head.classify.weight"] + 1}
    checkpoint.save(path, content | {"ema": average})
    other = config(SYMNET, f"test.checkpoint={path}", "test.trained_on=mini", "data.name=other", *FEW)
    (result,) = score(other)
    assert (result["finished"], result["trained_otherwise"]) == (False, [])
    assert "NOT FINISHED (step 2 of 8)" in title(result)
    assert result["weights"] == checkpoint.digest_of(weights | average)
    checkpoint.save(path, content | {"finished": True})
    (result,) = score(other)
    assert result["finished"]


def test_two_ways_are_counted_class_by_class(config, tmp_path: Path):
    """Neither batches nor a cache change a count; scores, the comparison and a replay agree with the episodes."""
    (result,) = score(config(PROTOTYPE, "data.shot=2"), ("2way",))
    folder = tmp_path / "runs/tiny/test_2shot/2way_quick"
    file = folder / "episodes.jsonl"
    assert read_result(folder / RESULT) == result
    assert "2-way 2-shot" in title(result)
    check_classes_of_two_ways([episode for episode in lines(folder) if episode["seed"] == 1], result)
    for overrides, manifest in (["test.batch=3"], None), ([], file):
        (again,) = score(config(PROTOTYPE, "data.shot=2", *overrides), ("2way",), manifest=manifest)
        assert (again["per_seed"], again["episode_digests"]) == (result["per_seed"], result["episode_digests"])
    assert "over 14 paired episodes" in str(compare(folder, folder))
    with pytest.raises(UserError, match=r"episodes.jsonl:2: .*2"):
        score(config(PROTOTYPE, "data.shot=2"), manifest=file)


def check_classes_of_two_ways(episodes: list[dict], result: dict) -> None:
    """Check the counts of seed 1's episodes of classes 1 and 2 with two supports each, and the IoU of both classes."""
    total = np.zeros(8)
    for episode in episodes:
        (other,) = episode["others"]
        assert ({episode["class"], other["class"]}, len(other["supports"])) == ({1, 2}, 2)
        counts = episode["outputs"]["final"]
        i1, _, i2, _, foreground_intersection, _, _, background_union = counts
        assert foreground_intersection >= i1 + i2
        assert background_union > 0
        total += counts
    i1, u1, i2, u2, *_ = total
    assert result["per_seed"][1]["final"]["per_class"] == pytest.approx({"1": 100 * i1 / u1, "2": 100 * i2 / u2})
    assert min(i1, i2) > 0


def test_unknown_metrics_and_a_folder_that_is_a_file_are_refused(config, tmp_path: Path):
    with pytest.raises(UserError, match=r"test.metrics.*boundary_iou"):
        score(config(PROTOTYPE, "test.metrics=[boundary]"))
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(NotADirectoryError, match=str(file)):
        score(config(PROTOTYPE, f"run.folder={file}", *FEW))


def test_a_checkpoint_or_an_encoder_of_another_fold_is_refused(config, tmp_path: Path):
    trained = new_checkpoint(config(SYMNET), tmp_path / "fold0.pth")
    other_fold = [f"test.checkpoint={trained}", "data.fold=1", *FEW]
    with pytest.raises(UserError, match=r"data\.fold = 0, this run has 1; name a checkpoint of such a run$"):
        score(config(SYMNET, *other_fold))
    (same_fold,) = score(config(SYMNET, f"test.checkpoint={trained}", *FEW))
    assert title(same_fold).startswith("WEIGHTS FROM ELSEWHERE: QUICK LOOK")
    encoder = [f"model.encoder.weights={trained}", "data.fold=1", *FEW]
    with pytest.raises(UserError, match=r"this encoder was trained with data\.fold = 0, now 1; its base"):
        score(config(PROTOTYPE, *encoder))


def test_weights_trained_for_other_shots_are_told_before_the_first_episode(config, tmp_path: Path):
    trained = new_checkpoint(config(SYMNET, "data.shot=2"), tmp_path / "two.pth")
    with pytest.raises(UserError, match=r"shot_weights\S* is unknown; check .*data\.shot"):
        score(config(SYMNET, f"test.checkpoint={trained}"), shots=(2, 1))
    assert not list(tmp_path.rglob("result.json"))


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "bam"),
        (["test.checkpoint=last"], "bam_last"),
        (["test.checkpoint=none"], "bam_untrained"),
        (["test.seeds=[1]"], "bam_seeds-1"),
        (["test.seeds=[2, 3]", "test.checkpoint=last"], "bam_last_seeds-2-3"),
        (["test.checkpoint=other.pth", "test.episodes=20"], "bam_foreign-*_quick"),
        (["test.checkpoint={meta}/best.pth"], "bam"),
    ],
)
def test_only_the_runs_best_weights_get_its_own_folder(mini_yaml, overrides: list[str], name: str):
    meta = Run(read_config(mini_yaml(SYMNET))).folder("meta")
    overrides = [text.format(meta=meta) for text in overrides]
    folder = folder_of(read_config(mini_yaml(SYMNET), overrides), "bam")
    assert folder.parent == meta.parent / "test"
    assert fnmatch(folder.name, name)
    other = read_config(mini_yaml(SYMNET), [*overrides, "test.checkpoint=another.pth"])
    assert folder_of(other, "bam") != folder  # neither overwrites the other


def test_fewer_seeds_and_a_replay_cut_short_are_marked(config, tmp_path: Path):
    full = ["test.episodes=null", "protocols.bam.episodes=4", "protocols.bam.seeds=[0, 1]"]
    both_seeds = [*full, "test.seeds=null"]
    changed = "CHANGED PROTOCOL (episodes = 200, now 4; seeds = [0], now [0, 1]): "
    file = tmp_path / "runs/tiny/test/bam/episodes.jsonl"
    for overrides, manifest, marks, folder in (
        ([*full, "test.seeds=[0]"], None, f"1 OF 2 SEEDS: {changed}", "bam_seeds-0"),
        (both_seeds, None, changed, "bam"),
        (both_seeds, file, "REPLAY (episodes.jsonl): ", "bam_replay"),
        (
            [*both_seeds, "test.episodes=3"],
            file,
            "QUICK LOOK (3 episodes): REPLAY (episodes.jsonl): ",
            "bam_replay_quick",
        ),
    ):
        (result,) = score(config(PROTOTYPE, *overrides), ("bam",), manifest=manifest)
        assert title(result).startswith(f"{marks}bam (")
        assert read_result(file.parents[1] / folder / RESULT) == result


def test_tested_classes_that_weights_of_another_data_set_learnt_are_marked(config, tmp_path: Path):
    trained = new_checkpoint(config("ssp", "data.fold=1"), tmp_path / "other/meta/best.pth")
    elsewhere = "data.name=mine", "test.trained_on=mini", f"test.checkpoint={trained}"
    (result,) = score(config("ssp", *elsewhere, *FEW))
    assert result["classes_trained_on"] == [*result["novel"].values()]
    assert "TRAINED ON TESTED CLASSES (striped disc, dotted star)" in title(result)


@pytest.fixture
def listed(mini_yaml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that gives a config whose protocols hsnet and dcama have a published list of some lines."""
    monkeypatch.setattr(list_files, "PUBLISHED", str(tmp_path))

    def make(*more: str):
        protocols = {name: {"list_file": f"{tmp_path}/val_fold{{fold}}.txt"} for name in ("hsnet", "dcama")}
        path = mini_yaml(PROTOTYPE, test={"checkpoint": "none", "episodes": 5}, protocols=protocols)
        data = read_config(path).data
        index = load_index(data, "test", progress=False)
        pairs = novel_list(index, Fold.of(data), data).pairs[::-1][:5]
        listed_pairs = [f"{index.names[row]} {c}\n" for row, c in pairs]
        (tmp_path / "val_fold0.txt").write_text("".join([*listed_pairs, *more]))
        return path, [index.names[row] for row, _ in pairs]

    return make


def test_a_protocol_runs_on_its_list_and_says_so(listed, tmp_path: Path) -> None:
    path, names = listed()
    wide = ["protocols.symnet.input=stretch", "protocols.symnet.side=100", "protocols.symnet.smooth=true"]
    hsnet, dcama, symnet = score(read_config(path, wide), ("hsnet", "dcama", "symnet"))
    folder = tmp_path / "runs/tiny/test/hsnet_quick"
    assert queries(folder) == queries(folder.with_name("dcama_quick")) == names
    assert "hsnet (contiguous folds, published list, drawn here)" in title(hsnet)
    stated = hsnet["list_source"], hsnet["list_note"], hsnet["draw_note"]
    assert stated == (f"{tmp_path}/val_fold0.txt", "", "the published list of mini is not known")
    assert hsnet["list"] == dcama["list"] != symnet["list"]
    assert (symnet["draw_note"], "list" in title(symnet)) == ("", False)
    (from_masks,) = score(read_config(path, ["protocols.hsnet.list_file=null"]), ("hsnet",))
    assert from_masks["list_source"] == "made from the masks"
    assert "hsnet (contiguous folds, pairs by 100 pixels, drawn here)" in title(from_masks)
    assert queries(folder) != names


def queries(folder: Path) -> list[str]:
    return [episode["query"] for episode in lines(folder)]


def test_a_replay_has_its_protocols_list_and_says_none(listed, tmp_path: Path) -> None:
    """Of episodes of the list, of others, and without the list's file."""
    path, _ = listed()
    config = read_config(path)

    def replayed(protocol: str) -> dict:
        (result,) = score(config, (protocol,), manifest=tmp_path / f"runs/tiny/test/{protocol}_quick/episodes.jsonl")
        assert "list" not in title(result)
        return result

    hsnet, dcama = score(config, ("hsnet", "dcama"))
    again = replayed("hsnet")
    assert (again["list"], again["per_seed"]) == (hsnet["list"], hsnet["per_seed"])
    score(read_config(path, ["protocols.hsnet.list_file=null"]), ("hsnet",))
    assert replayed("hsnet")["list"] == hsnet["list"]
    (tmp_path / "val_fold0.txt").unlink()
    assert replayed("dcama")["per_seed"] == dcama["per_seed"]


def test_missing_photos_are_one_warning_and_a_mark(listed, capfd: pytest.CaptureFixture) -> None:
    path, _ = listed("lost 1\n")
    result, _ = score(read_config(path), ("hsnet", "dcama"))
    (warning,) = [line for line in "".join(capfd.readouterr()).splitlines() if "is not used" in line]
    assert "1 of its" in warning
    assert result["list_note"] in warning
    assert "pairs by 100 pixels" in title(result)
