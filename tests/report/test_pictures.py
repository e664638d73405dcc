"""The pictures of a result, from the predictions that a test keeps, and several methods side by side."""

import json
import re
import shutil
import sys
import zipfile
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.baselines.prototype import PrototypeBaseline
from report import command
from tests.evaluate.quick import FEW, PROTOTYPE, SYMNET, lines, quick_config
from tests.helpers.scored import score
from util.config.settings import Config
from util.evaluate.evaluation import Evaluation
from util.evaluate.kept import Kept, KeptPredictions, read_predictions
from util.evaluate.schema import read_result
from util.files.errors import UserError
from util.loop.metrics import iou_of
from util.loop.processes import ProcessGroup
from util.loop.score import FINAL
from util.report import pictures as module
from util.report.figure import CAPTION, GAP, PANEL_HEIGHT
from util.report.pictures import draw_episodes, side_by_side
from util.report.show import show_results

EPISODES = {0: 40, 7: 25}


@pytest.mark.parametrize("wanted", [{"worst": 3, "best": 2, "random": 5}, {"random": 80}])
@pytest.mark.parametrize("processes", [1, 3])
def test_the_chosen_episodes_are_kept_with_their_predictions(wanted: dict[str, int], processes: int) -> None:
    random = np.random.default_rng(0)
    episodes = [(seed, n) for seed, length in EPISODES.items() for n in range(length)]
    records = {}
    for seed, number in episodes:  # many ties
        records[seed, number] = torch.tensor([[number, 1, random.integers(0, 5), 5, 0, 1]])
    kept = {}
    for rank in range(processes):
        part = KeptPredictions(wanted, EPISODES)
        for seed, number in episodes[rank::processes]:
            prediction = torch.full((1, 6, 8), number % 2)
            prior = torch.full((3, 4), seed / 8)
            part.add(seed, number, {FINAL: records[seed, number]}, {FINAL: prediction}, {"prior": prior})
        kept_by_rank = part.gather(ProcessGroup(0, 1, torch.device("cpu")))
        assert len(kept_by_rank) <= sum(wanted.values())
        kept |= kept_by_rank
    ious = {episode: iou_of(rows.numpy()) for episode, rows in records.items()}
    kinds = part.kinds(ious)
    assert kinds == part.kinds({episode: ious[episode] for episode in kept})
    for episode in kinds:
        check_kept(kept[episode])


def check_kept(kept: Kept) -> None:
    """Check the prediction and the map of an episode, which hold its number and its seed."""
    seed, number = kept.episode
    np.testing.assert_array_equal(kept.predictions[FINAL], np.full((6, 8), number % 2, np.uint8), strict=True)
    np.testing.assert_allclose(kept.maps["prior"], np.full((3, 4), seed / 8, np.float32), atol=1e-5, strict=True)


def test_kept_predictions_are_read_as_written(tmp_path: Path) -> None:
    """Of an episode that is only among the first the final prediction alone; damaged files are refused."""
    path = tmp_path / "predictions.zip"
    keeper = KeptPredictions({"first": 1, "best": 1}, {3: 2})
    for number in range(2):
        predictions = {name: torch.full((1, 6, 8), number) for name in (FINAL, "meta")}
        keeper.add(3, number, {FINAL: torch.tensor([[number, 1, number, 5]])}, predictions, {"prior": torch.ones(3, 4)})
    keeper.write(path)
    first, best = read_predictions(path)
    assert (first.episode, first.kinds, first.predictions.keys(), first.maps) == ((3, 0), ["first"], {FINAL}, {})
    assert (best.episode, best.kinds, best.predictions.keys()) == ((3, 1), ["best"], {FINAL, "meta"})
    assert best.predictions["meta"].all() and best.maps["prior"].all()
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"predictions\.zip: cannot read .* score the run again"):
        read_predictions(path)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"episode": ["/../../out", 0], "kinds": ["worst"]}, "must be a whole number"),
        ({"episode": [0], "kinds": ["worst"]}, "not enough values"),
        ({"episode": [0, 0], "kinds": ["<b>"]}, "is not one of first, worst, best, random"),
        ({"episode": [0, 0]}, "kinds' is missing"),
    ],
)
def test_an_index_with_wrong_types_is_refused(tmp_path: Path, row: dict, problem: str) -> None:
    path = tmp_path / "predictions.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("episodes.json", json.dumps([row]))
    with pytest.raises(UserError, match=f"cannot read .*{problem}"):
        read_predictions(path)


def test_compressed_predictions_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "predictions.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("episodes.json", "[]" + " " * 1000)
    with pytest.raises(UserError, match="its files are compressed"):
        read_predictions(path)


@pytest.mark.parametrize("name", ["prior.png", "final.png"])
def test_predictions_without_a_picture_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "predictions.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("episodes.json", json.dumps([{"episode": [0, 0], "kinds": ["worst"]}]))
        file.writestr(f"seed0_episode00000/{name}", b"no picture")
    with pytest.raises(
        UserError, match=r"final\.png is missing|a kept prediction: (this photo is damaged|is no photo)"
    ):
        print(read_predictions(path)[0].predictions)


@pytest.fixture
def config(mini_yaml):
    """Return a function that gives a config over the tiny data set, with overrides."""
    return partial(quick_config, mini_yaml)


@pytest.mark.train
def test_pictures_are_the_worst_and_best_until_the_next_test(config, tmp_path: Path, capsys):
    score(config(PROTOTYPE), save_images={"worst": 3, "best": 2, "random": 4})
    folder = tmp_path / "runs/tiny/test/symnet_quick"
    show_results([folder / "result.json"])
    height = len(np.array(Image.open(folder / "episodes.png")))  # of eight rows of panels
    assert height == 8 * (CAPTION + PANEL_HEIGHT + GAP)
    check_page(folder / "pictures", lines(folder))
    for name in ("curve.png", "per_class.png"):
        assert np.array(Image.open(folder / name)).std() > 10
        assert str(folder / name) in capsys.readouterr().out or name == "per_class.png"
    manifest = folder / "episodes.jsonl"
    manifest.write_text("\n".join(manifest.read_text().splitlines()[:2]) + "\n")
    with pytest.raises(UserError, match=r"predictions\.zip: seed 0, episode 1 is not in episodes\.jsonl beside it"):
        draw_episodes(folder / "result.json", "png")
    score(config())
    assert {path.suffix for path in folder.iterdir()} == {".json", ".jsonl", ".txt", ".yaml", ".zip", ""}  # no picture


@pytest.mark.train
def test_results_whose_photos_are_gone_keep_their_tables(config, mini_root: Path, tmp_path: Path, capsys) -> None:
    root = tmp_path / "data"
    shutil.copytree(mini_root, root)
    score(config(PROTOTYPE, f"data.root={root}", *FEW))
    path = tmp_path / "runs/tiny/test/symnet_quick/result.json"
    shutil.rmtree(root)
    show_results([path])
    output = capsys.readouterr().out
    assert "| final" in output and "protocol" not in output
    assert f"no pictures of episodes: {root}" in output
    assert path.with_name("curve.png").exists()


def check_page(folder: Path, episodes: list[dict]) -> None:
    """Check that a page shows the three worst, the two best and four random episodes, each with a picture."""
    page = (folder / "index.html").read_text()
    assert "http" not in page
    shown = ious_by_kind(page)
    assert {kind: len(ious) for kind, ious in shown.items()} == {"worst": 3, "best": 2, "random": 4}
    ious = sorted(iou_of_episode(episode) for episode in episodes)
    assert sorted(shown["worst"]) == pytest.approx(ious[:3], abs=1e-3)
    assert sorted(shown["best"]) == pytest.approx(ious[-2:], abs=1e-3)
    files = re.findall(r'<a href="([^"]+\.png)"', page)
    assert len(files) == page.count("<figure ")
    for file in files:
        assert np.array(Image.open(folder / file)).std() > 10


def ious_by_kind(page: str) -> dict[str, list[float]]:
    """Return the IoU of a page's episodes in percent, by their kinds."""
    ious = defaultdict(list)
    for iou, kinds in re.findall(r'data-iou="([\d.]+)" data-class="[^"]+" data-kinds="([^"]+)"', page):
        for kind in kinds.split():
            ious[kind].append(float(iou))
    return ious


def iou_of_episode(episode: dict) -> float:
    """Return the IoU of a manifest's episode of one class in percent."""
    intersection, union = episode["outputs"]["final"][:2]
    return 100 * intersection / max(union, 1)


@pytest.mark.train
def test_pictures_need_no_second_pass(config, tmp_path: Path, monkeypatch):
    passes = Counter()
    forward = PrototypeBaseline.forward

    def counted(network, episode):
        passes["network"] += len(episode.query)
        return forward(network, episode)

    monkeypatch.setattr(PrototypeBaseline, "forward", counted)
    score(config(PROTOTYPE, "data.shot=3"), save_images={"random": 4})
    assert passes["network"] == 14
    folder = tmp_path / "runs/tiny/test_3shot/symnet_quick"
    draw_episodes(folder / "result.json", "svg")
    assert passes["network"] == 14
    drawn = [*(folder / "pictures").glob("*.svg")]
    assert len(drawn) == 4
    assert {path.stem for path in drawn} == {path.stem for path in (folder / "pictures").glob("*.png")}
    assert "support 3" in drawn[0].read_text()
    log = (folder / "log.txt").read_text()
    for text in ("protocol: symnet", "% mIoU", "shot: 3"):
        assert text in log


@pytest.mark.train
def test_methods_are_compared_on_equal_episodes(mini_yaml, tmp_path: Path, monkeypatch) -> None:
    folders = []
    for name in (SYMNET, PROTOTYPE):
        folders.append(scored_folder(quick_config(mini_yaml, name, f"run.name={name[:-5]}")))
    drawn = []
    out = tmp_path / "beside"
    with monkeypatch.context() as patched:
        patched.setattr(module, "draw", lambda boards, aligned: drawn.extend(boards) or "figure")
        patched.setattr(module, "write_figure", lambda path, figure, suffix: [path])
        assert side_by_side(folders, (5, 0), out) == [out]
    for number, board in zip((5, 0), drawn, strict=True):
        _, _, _, symnet, prototype = board  # after support, query and truth
        check_caption(symnet[0], "Sym-Net", folders[0], number)
        check_caption(prototype[0], "prototype baseline", folders[1], number)
    words = ["report", "figure", *map(str, folders), "--episodes", "1,2", "--out", f"{out}.pdf"]
    monkeypatch.setattr(sys, "argv", words)
    assert command() == 0
    assert out.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def scored_folder(config: Config) -> Path:
    """Test a config and return the folder of the result."""
    score(config)
    return Evaluation.of(config, "symnet").folder


def check_caption(caption: str, method: str, folder: Path, number: int) -> None:
    """Check that a panel names the method and its IoU of an episode."""
    iou = iou_of_episode(module.read_manifest(folder / "episodes.jsonl").episodes[number])
    assert caption.startswith(method)
    assert caption.endswith(f"IoU {iou:.1f} %")


@pytest.mark.train
def test_results_that_cannot_be_compared_are_refused(mini_yaml, tmp_path: Path) -> None:
    folders = []
    for fold in (0, 1):
        config = quick_config(mini_yaml, PROTOTYPE, f"run.name=fold{fold}", f"data.fold={fold}", *FEW)
        folders.append(scored_folder(config))
    first, second = folders
    path = second / "result.json"
    weights = read_result(path)["weights"]
    path.write_text(path.read_text().replace(weights, "0" * 64))
    for places, number, message in (
        ([first], 2, "--episodes 2: .* 0 to 1"),
        (folders, 1, "different episodes"),
        ([second], 1, "the weights have changed"),
    ):
        with pytest.raises(UserError, match=message):
            side_by_side(places, (number,), tmp_path / "figure")
    assert not (tmp_path / "figure.png").exists()
