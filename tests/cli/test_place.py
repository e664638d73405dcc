"""A run is where its folder lies: configs in copied, renamed, moved and linked runs, and those beside none."""

import shutil
from pathlib import Path

import pytest
import yaml

from util.config.read import read_config, to_dict
from util.run.folder import BEST
from util.run.run import Run


@pytest.fixture
def run(mini_yaml, tmp_path: Path) -> Path:
    """Return the folder of a run, with the files of a stage that decide whose they are; the working folder is above."""
    return written(Run(read_config(mini_yaml())), "meta").parent


def folder_of(path: Path, *overrides: str, stage: str = "meta") -> Path:
    """Return the folder of a stage of the run that a config is of."""
    return Run(read_config(path, [*overrides])).folder(stage)


def written(run: Run, stage: str) -> Path:
    """Write config and weights of a stage, as a training does, and return its folder."""
    folder = run.folder(stage)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(to_dict(run.config)))
    (folder / BEST).touch()
    return folder


def test_a_config_in_a_copied_run_names_the_copy(run: Path) -> None:
    config = run / "meta/config.yaml"
    former = config.read_text().replace("  fold:", "  decoded_gib: 8.0\n  fold:")  # of a former version
    config.write_text(f"base: config/gone/gone.yaml\n{former}")  # its data set's file, which is not on this machine
    copy = run.with_name("copy")
    shutil.copytree(run, copy)
    for place in (copy, run):
        file = place / "meta/config.yaml"
        assert Run(read_config(file)).weights_file == place / "meta" / BEST
        for stage in ("test", "base"):
            assert folder_of(file, stage=stage) == place / stage


def test_a_moved_run_is_found_from_any_folder(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "elsewhere/renamed"
    place.parent.mkdir()
    run.rename(place)
    for folder, written_path in (
        ("", "elsewhere/renamed/meta/config.yaml"),
        ("elsewhere/renamed", "meta/config.yaml"),
        ("elsewhere/renamed/meta", "config.yaml"),
        ("elsewhere/renamed/meta", "../meta/config.yaml"),
    ):
        monkeypatch.chdir(tmp_path / folder)
        assert folder_of(written_path).samefile(place / "meta")


def test_the_command_lines_words_win(run: Path) -> None:
    path = run / "meta/config.yaml"
    assert folder_of(path, "run.name=again") == run.with_name("again") / "meta"
    assert folder_of(path, "run.folder=other") == Path("other", run.name, "meta")


def test_links_lead_to_the_run_of_the_file(run: Path, tmp_path: Path) -> None:
    moved = run.rename(run.with_name("moved"))
    (tmp_path / "latest.yaml").symlink_to(moved / "meta/config.yaml")
    (tmp_path / "latest").symlink_to(moved / "meta")
    for name in ("latest.yaml", "latest/config.yaml"):
        assert folder_of(tmp_path / name) == moved / "meta"


def test_a_copy_of_the_config_alone_says_itself_which_run_it_is_of(run: Path, tmp_path: Path) -> None:
    assert folder_of(shutil.copy(run / "meta/config.yaml", tmp_path / "mine.yaml")) == run / "meta"


def test_a_name_of_several_parts_stays(mini_yaml, tmp_path: Path) -> None:
    folder = written(Run(read_config(mini_yaml(run={"name": "lr/a"}))), "meta")
    assert read_config(folder / "config.yaml").run.name == "lr/a"


def test_stages_of_five_shots_and_tests_belong_to_their_run(mini_yaml, tmp_path: Path) -> None:
    folder = written(Run(read_config(mini_yaml(), ["data.shot=5"])), "meta")
    for part in ("meta_5shot", "test_5shot/pascal"):
        copied = shutil.copytree(folder, tmp_path / "copy" / part)
        assert folder_of(copied / "config.yaml") == tmp_path / "copy/meta_5shot"


@pytest.mark.parametrize(("base", "found"), [("runs/tiny/base", "copies/tiny/base"), ("shared/base", "shared/base")])
def test_the_base_stage_of_a_copied_run(base: str, found: str, mini_yaml, tmp_path: Path) -> None:
    run = Run(read_config(mini_yaml("bam", run={"base_folder": str(tmp_path / base)})))
    written(run, "meta")
    written(run, "base")
    shutil.copytree(tmp_path / "runs", tmp_path / "copies")
    assert folder_of(tmp_path / "copies/tiny/meta/config.yaml", stage="base") == tmp_path / found
