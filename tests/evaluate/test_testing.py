"""The test command: protocols and shots in one go, the same integers everywhere, replays, folds, published lists."""

from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import pytest

from tests.evaluate.quick import FEW, PROTOTYPE, QUICK, SYMNET, lines, new_checkpoint, quick_config
from tests.helpers import spawned
from util.checkpoints import checkpoint
from util.checkpoints.run import Run
from util.config.folds import Fold
from util.config.read import read_config
from util.config.settings import Config
from util.data.lists.image_list import test_list as novel_list
from util.data.lists.index import load_index
from util.errors import UserError
from util.evaluate import testing
from util.evaluate.evaluate import run_pass
from util.evaluate.test import Test, own_config
from util.evaluate.testing import test as score
from util.report.compare import compare
from util.report.paper_table import table
from util.report.result_table import title
from util.report.schema import RESULT, read_result

pytestmark = pytest.mark.train


@pytest.fixture
def config(mini_yaml):
    """Return a function that gives a config over the tiny data set, with overrides."""
    return partial(quick_config, mini_yaml)


@pytest.mark.process
def test_batch_size_and_processes_change_no_integer(mini_yaml, tmp_path: Path):
    """Three protocols by one and by four in this process, by four in two processes; seven episodes do not divide."""
    few, names = QUICK | {"seeds": [0], "metrics": ["boundary_iou"]}, ("symnet", "bam", "hsnet")
    path = mini_yaml(SYMNET, run={"seed": 1}, test=few)

    def files() -> list:
        folders = [tmp_path / f"runs/tiny/test/{name}_untrained_quick" for name in names]
        results = [read_result(folder / "result.json") for folder in folders]
        return [(lines(f), r["per_seed"], r["episode_digests"]) for f, r in zip(folders, results, strict=True)]

    found = []
    for batch in (1, 4):
        score(read_config(path, [f"test.batch={batch}"]), names)
        found.append(files())
    ranks = spawned.start_ranks(2, "test.py", path, "--protocol", ",".join(names), "--set", "test.batch=4")
    assert [r.code for r in ranks] == [0, 0], [r.stderr[-2000:] for r in ranks]
    assert sum((r.stdout + r.stderr).count("result: ") for r in ranks) == len(names)  # reported once
    assert read_result(tmp_path / "runs/tiny/test/bam_untrained_quick/result.json")["processes"] == 2
    assert found[0] == found[1] == files()
    finals = [e["outputs"]["final"] for episodes, *_ in found[0] for e in episodes]
    assert len(finals) == 21 and len({tuple(f) for f in finals}) > 7 and any(f[0] for f in finals)


def test_protocols_together_equal_each_alone(config, tmp_path: Path):
    one_draw = "protocols.symnet.draw=pfenet"
    together = score(config(PROTOTYPE, "data.workers=1", one_draw), ("symnet", "bam", "hdmnet", "ssp"))
    assert together[0]["shared_with"] == ["bam"] and together[1]["shared_with"] == ["symnet"]
    assert together[0]["episode_digests"] == together[1]["episode_digests"] != together[3]["episode_digests"]
    for result in together[1::2]:
        alone = score(config(), (result["protocol"],))[0]
        assert alone["per_seed"] == result["per_seed"] and alone["shared_with"] == []
    assert len({r["mean"]["final"]["miou"] for r in together}) == 4


def test_each_number_of_shots_has_a_result_whose_episodes_are_replayed(config, tmp_path: Path):
    """Replayed by the same protocol the counts are the same; by another they are of the same episodes."""
    folder = tmp_path / "runs/tiny/test"
    file = folder / "symnet_quick/episodes.jsonl"
    one, two = score(config(), shots=(1, 2))
    places = folder / "symnet_quick", folder.with_name("test_2shot") / "symnet_quick"
    assert [read_result(place / RESULT) for place in places] == [one, two] and (one["shot"], two["shot"]) == (1, 2)
    assert all(len(e["supports"]) == 2 for e in lines(places[1]))
    with pytest.raises(UserError, match=r"episode\.jsonl"):  # its own episodes would be others
        score(config(), manifest=file.with_name("episode.jsonl"))
    text = file.read_text()
    again, squeezed = score(config(), ("symnet", "hsnet"), manifest=file)
    assert lines(folder / "symnet_quick") == lines(folder / "symnet_replay")
    assert again["replayed"] == str(file) and not again["quick_look"]
    assert again["episode_digests"] == squeezed["episode_digests"]
    assert "B - A = +0.00" in str(compare(folder / "symnet_quick", folder / "symnet_replay"))
    assert "14 paired episodes" in str(compare(file, folder / "hsnet_replay"))
    assert text == file.read_text()  # a replay leaves it alone


def test_one_shot_has_its_result_when_the_next_begins(config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def one_shot_alone(*arguments) -> None:
        if "2-shot" in arguments[5]:  # the label
            raise KeyboardInterrupt
        run_pass(*arguments)

    monkeypatch.setattr(testing, "run_pass", one_shot_alone)
    with pytest.raises(KeyboardInterrupt):
        score(config(), shots=(1, 2))
    folder = tmp_path / "runs/tiny"
    assert read_result(folder / "test/symnet_quick" / RESULT)["seeds"] == [0, 1]
    assert not (folder / "test_2shot/symnet_quick" / RESULT).exists()


def folder_of(config: Config, protocol: str) -> Path:
    return Test(own_config(config, protocol, config.data.shot)).folder


def test_a_test_that_fails_while_it_writes_leaves_no_result(config, monkeypatch: pytest.MonkeyPatch):
    """Neither the old one nor a new one beside files that are not its own."""
    score(config(PROTOTYPE, *FEW))
    assert (path := folder_of(config(PROTOTYPE, *FEW), "symnet") / RESULT).exists()
    monkeypatch.setattr(testing, "save_pictures", None)  # which fails as a full disk does
    with pytest.raises(TypeError):
        score(config(PROTOTYPE, *FEW))
    assert not path.exists()


def test_quick_looks_of_other_settings_do_not_overwrite_each_other(config):
    looks = [("run.seed=2",), ("data.min_pixels=60",), ("run.seed=2", "test.episodes=6"), ()]
    results = [score(config(PROTOTYPE, *look))[0] for look in looks]
    places = [folder_of(config(PROTOTYPE, *look), "symnet") for look in looks]
    assert len({*places}) == len(looks) and places[0].name == "symnet_quick"
    assert [read_result(place / RESULT) for place in places] == results


def test_an_unfinished_training_is_marked_and_of_its_weights_the_moving_average_is_scored(config, tmp_path: Path):
    path = new_checkpoint(config(SYMNET), tmp_path / "half/last.pth")
    content = checkpoint.read(path) | {"schedule": {"steps": 8}, "progress": {"step": 2}}
    name = next(name for name in content["weights"] if name.endswith("weight"))
    average = {name: content["weights"][name] + 1}
    checkpoint.save(path, content | {"ema": average})
    other = config(SYMNET, f"test.checkpoint={path}", "test.trained_on=mini", "data.name=other", *FEW)
    (result,) = score(other)
    assert result["trained_otherwise"] == ["not finished (step 2 of 8)"] and "not finished" in title(result)
    assert result["weights"] == checkpoint.digest_of(content["weights"] | average)
    checkpoint.save(path, content | {"finished": True})
    assert score(other)[0]["trained_otherwise"] == []


def test_two_ways_are_counted_class_by_class(config, tmp_path: Path):
    """Neither batches nor a cache change a count; scores, the comparison and a replay agree with the episodes."""
    result = score(config(PROTOTYPE, "data.shot=2"), ("2way",), save_images={"worst": 1})[0]
    folder = tmp_path / "runs/tiny/test_2shot/2way_quick"
    file = folder / "episodes.jsonl"
    assert read_result(folder / "result.json") == result and "2-way 2-shot" in title(result)
    sums = {1: [0, 0], 2: [0, 0]}
    episodes = [e for e in lines(folder) if e["seed"] == 0]
    for episode in episodes:
        i1, u1, i2, u2, foreground, _, _, every = episode["outputs"]["final"]
        assert foreground >= i1 + i2 and sorted([episode["class"], episode["others"][0]["class"]]) == [1, 2]
        assert every > 0 and len(episode["others"][0]["supports"]) == 2
        sums = {1: [sums[1][0] + i1, sums[1][1] + u1], 2: [sums[2][0] + i2, sums[2][1] + u2]}
    expected = {str(c): 100 * i / u for c, (i, u) in sums.items()}
    assert result["per_seed"][0]["final"]["per_class"] == pytest.approx(expected) and min(expected.values()) > 0
    again = score(config(PROTOTYPE, "data.shot=2", "test.batch=3", "test.cache_gib=1"), ("2way",))[0]
    assert again["per_seed"] == result["per_seed"]
    replayed = score(config(PROTOTYPE, "data.shot=2"), ("2way",), manifest=file)[0]
    assert replayed["per_seed"] == result["per_seed"] and replayed["episode_digests"] == result["episode_digests"]
    assert "over 14 paired episodes" in str(compare(folder, folder))
    with pytest.raises(UserError, match=r"episodes.jsonl:2: .*2"):
        score(config(PROTOTYPE, "data.shot=2"), manifest=file)
    with pytest.raises(UserError, match=r"test.metrics.*boundary_iou"):
        score(config(PROTOTYPE, "test.metrics=[boundary]"))
    with pytest.raises(NotADirectoryError, match=str(file)):
        score(config(PROTOTYPE, f"run.folder={file}", *FEW))


def test_a_checkpoint_or_an_encoder_of_another_fold_is_refused_unless_allowed(config, tmp_path: Path):
    trained = new_checkpoint(config(SYMNET), tmp_path / "fold0.pth")
    own = [f"test.checkpoint={trained}", "data.fold=1", *FEW]
    with pytest.raises(UserError, match=r"data.fold = 0, this run has 1; its base classes may be novel here"):
        score(config(SYMNET, *own))
    result = score(config(SYMNET, *own, "test.allow_fold_mismatch=true"))[0]
    assert result["fold_mismatch"] and result["trained_with"]["fold"] == 0
    same = score(config(SYMNET, own[0], *FEW))[0]
    assert not same["fold_mismatch"] and title(same).startswith("WEIGHTS FROM ELSEWHERE: QUICK LOOK")
    encoder = [f"model.encoder.weights={trained}", *own[1:]]
    with pytest.raises(UserError, match="an encoder trained with fold = 0, now 1"):
        score(config(PROTOTYPE, *encoder))
    score(config(PROTOTYPE, *encoder, "test.allow_fold_mismatch=true"))


def test_weights_of_other_shots_say_so_before_the_first_is_scored(config, tmp_path: Path):
    trained = new_checkpoint(config(SYMNET, "data.shot=2"), tmp_path / "two.pth")
    with pytest.raises(UserError, match=r"trained with 2 shot\(s\), this network takes 1.*test\.fuse=masks"):
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
        (["test.allow_fold_mismatch=true"], "bam_foreign-*"),
    ],
)
def test_only_the_runs_best_weights_get_its_own_folder(mini_yaml, overrides: list[str], name: str):
    meta = Run(read_config(mini_yaml(SYMNET))).folder("meta")
    config = read_config(mini_yaml(SYMNET), overrides := [text.format(meta=meta) for text in overrides])
    folder = folder_of(config, "bam")
    assert folder.parent == meta.parent / "test" and fnmatch(folder.name, name)
    other = read_config(mini_yaml(SYMNET), [*overrides, "test.checkpoint=another.pth"])
    assert folder_of(other, "bam") != folder  # neither overwrites the other


def test_fewer_seeds_and_a_replay_cut_short_are_marked(config, tmp_path: Path):
    full = ["test.episodes=null", "protocols.bam.episodes=4", "protocols.bam.seeds=[0, 1]"]
    one = score(config(PROTOTYPE, *full, "test.seeds=[0]"), ("bam",))[0]
    assert one["other_seeds"] and not one["quick_look"] and "1 OF 2 SEEDS" in title(one)
    both = score(config(PROTOTYPE, *full, "test.seeds=null"), ("bam",))[0]
    assert not both["other_seeds"] and "SEEDS" not in title(both)
    assert len({path.parent.name for path in tmp_path.rglob(RESULT)} & {"bam", "bam_seeds-0"}) == 2
    folder = tmp_path / "runs/tiny/test"
    play = {"protocols": ["bam"], "manifest": folder / "bam/episodes.jsonl"}
    assert not score(config(PROTOTYPE, "test.episodes=null"), **play)[0]["quick_look"]
    cut = score(config(PROTOTYPE, "test.episodes=3"), **play)[0]
    assert cut["quick_look"] and "QUICK LOOK (3 episodes)" in title(cut) and "REPLAY" in title(cut)
    assert read_result(folder / "bam_replay/result.json")["episodes"] == 4
    assert read_result(folder / "bam_replay_quick/result.json")["episodes"] == 3


@pytest.fixture
def listed(mini_yaml, tmp_path: Path):
    """Return a function that gives a config whose protocols hsnet and dcama have a published list of some lines."""

    def make(*more: str):
        protocols = {name: {"list_file": str(tmp_path / "val_fold{fold}.txt")} for name in ("hsnet", "dcama")}
        path = mini_yaml(PROTOTYPE, test={"checkpoint": "none", "episodes": 5, "pictures": 0}, protocols=protocols)
        data = read_config(path).data
        index = load_index(data, "test", progress=False)
        pairs = novel_list(index, Fold.of(data), data).pairs[::-1][:5]
        text = [f"{index.names[row]} {c}\n" for row, c in pairs]
        (tmp_path / "val_fold0.txt").write_text("".join([*text, *more]))
        return path, [index.names[row] for row, _ in pairs]

    return make


def test_a_protocol_runs_on_its_list_and_says_so(listed, tmp_path: Path) -> None:
    path, names = listed()
    wide = ["protocols.symnet.input=stretch", "protocols.symnet.side=100", "protocols.symnet.smooth=true"]
    one, two, other = score(read_config(path, wide), ("hsnet", "dcama", "symnet"))
    folder = tmp_path / "runs/tiny/test"
    for place in (folder / "hsnet_quick", folder / "dcama_quick"):
        assert [episode["query"] for episode in lines(place)] == names
    assert "hsnet (contiguous folds, published list, drawn here)" in title(one) and one["list_note"] == ""
    assert one["draw_note"] == "the list of a published run on mini is not known" and not other["draw_note"]
    assert one["list"] == two["list"] != other["list"] and one["list_source"] == str(tmp_path / "val_fold0.txt")
    assert "list" not in title(other) and not other["shared_with"]
    rule = score(read_config(path, ["protocols.hsnet.list_file=null"]), ("hsnet",))[0]
    assert "pairs by 100 pixels" in title(rule) and rule["list_source"] == "made from the masks"
    (place,) = folder.glob("hsnet_quick-*")
    assert [episode["query"] for episode in lines(place)] != names
    assert "hsnet (contiguous folds, pairs by 100 pixels, drawn here)" in str(table([place]))
    again = score(read_config(path), ("hsnet",), manifest=folder / "hsnet_quick/episodes.jsonl")[0]
    assert again["list"] == one["list"] and "published list" in title(again)  # its episodes are pairs of the list
    other_pairs = score(read_config(path), ("hsnet",), manifest=place / "episodes.jsonl")[0]
    assert other_pairs["list_source"] == "made from the masks" and "list" not in title(other_pairs)
    (tmp_path / "val_fold0.txt").unlink()  # a replay needs no list
    again = score(read_config(path), ("dcama",), manifest=folder / "dcama_quick/episodes.jsonl")
    assert again[0]["per_seed"] == two["per_seed"] and "list" not in title(again[0])


def test_missing_photos_are_one_warning_and_a_mark(listed, capfd: pytest.CaptureFixture) -> None:
    path, _ = listed("lost 1\n")
    result = score(read_config(path), ("hsnet", "dcama"))[0]
    told = [line for line in "".join(capfd.readouterr()).splitlines() if "is not used" in line]
    assert len(told) == 1 and "1 of its" in told[0] and result["list_note"] in told[0]
    assert "pairs by 100 pixels" in title(result)
