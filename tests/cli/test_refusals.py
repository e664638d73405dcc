"""A command that is refused changes nothing: no file of its run, results, data or configs."""

import shutil
from pathlib import Path

import pytest
import yaml

from tests.outcome import run_script

Snapshot = dict[str, tuple[int, bytes]]


def snapshot(folder: Path) -> Snapshot:
    """Return name -> time of change and content of every file; folders have neither."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) if path.is_file() else (0, b"")
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.train
def test_a_refused_command_changes_nothing(mini_yaml, mini_root: Path, tmp_path: Path, capfd, monkeypatch) -> None:
    path = mini_yaml("mini_split0_ssp_resnet10.yaml", test={"episodes": 2, "seeds": [0]})
    photo, *others = sorted((mini_root / "JPEGImages").iterdir())[:3]
    marked, out = f"{photo}:box=10,10,50,50", tmp_path / "found"
    predict = ("predict.py", "--config", path, "--set", "test.checkpoint=none", "--support", marked, "--query", photo)
    for name, *words in (("train.py", path), ("test.py", path), (*predict, "--out", out)):
        assert run_script(name, words, capfd, monkeypatch).code == 0
    damaged = tmp_path / "damaged.pth"
    shutil.copy(tmp_path / "runs/tiny/meta/last.pth", damaged)
    damaged.write_bytes(damaged.read_bytes()[:500])
    (tmp_path / "names.txt").write_text("a\nb\n")
    custom = ("prepare.py", "custom", "--images", mini_root / "JPEGImages", "--masks", mini_root / "gone")
    custom += ("--classes", tmp_path / "names.txt", "--out", tmp_path / "data")
    refused = [
        ("train.py", path),
        ("train.py", path, "--resume", "--set", "run.seed=5"),
        ("train.py", path, "--resume", "--set", "meta_stage.batch=2"),
        ("train.py", path, "--overwrite", "--set", "data.root=gone"),
        ("train.py", path, "--overwrite", "--set", "data.train_list=gone.txt"),
        ("train.py", path, "--overwrite", "--set", "model.encoder.weights=gone.pth"),
        ("train.py", path, "--overwrite", "--set", "meta_stage.epoch=1"),
        ("train_base.py", path),
        ("test.py", path, "--checkpoint", damaged),
        ("test.py", path, "--checkpoint", "gone.pth"),
        ("test.py", path, "--protocol", "symnett"),
        ("test.py", path, "--set", "test.fuse=masks"),
        ("test.py", path, "--calibrate", "--shot", "5"),
        (*predict, "--out", out),
        (*predict, "--out", out, "--overwrite", "--query", tmp_path / "gone.jpg"),
        (*predict, "--out", out, "--overwrite", "--support", f"{others[0]}:{damaged}"),
        ("prepare.py", "mini", "--out", tmp_path / "mini", "--size", "100000"),
        ("prepare.py", "mini", "--out", tmp_path / "runs"),
        (*custom, "--name", "tiny"),
        (*custom, "--name", "mini"),
        ("prepare.py", "coco", "--root", tmp_path, "--out", tmp_path / "coco"),
    ]
    before = snapshot(tmp_path)
    for name, *words in refused:
        assert run_script(name, words, capfd, monkeypatch).error  # its one line
        after = snapshot(tmp_path)
        assert after == before, (words, {name for name in {*before, *after} if before.get(name) != after.get(name)})
    assert yaml.safe_load((tmp_path / "runs/tiny/meta/config.yaml").read_text())["run"]["seed"] == 321
