"""A run is where its folder lies: configs in copied, renamed, moved and linked runs, and those beside none."""

import shutil
from pathlib import Path

import pytest
import yaml

from util.config.read import read_config, to_dict
from util.run.run import BEST, Run


@pytest.fixture
def run(mini_yaml, tmp_path: Path) -> Path:
    """Return the folder of a run, with the files of a stage that decide whose they are; the working folder is above."""
    return written(Run(read_config(mini_yaml())), "meta").parent


def written(run: Run, stage: str) -> Path:
    """Write config and weights of a stage, as a training does, and return its folder."""
    folder = run.folder(stage)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(to_dict(run.config)))
    (folder / BEST).touch()
    return folder


def test_a_config_in_a_copied_run_names_the_copy(run: Path) -> None:
    copy = run.with_name("copy")
    shutil.copytree(run, copy)
    of_copy = Run(read_config(copy / "meta/config.yaml"))
    assert of_copy.source == copy / "meta" / BEST
    assert [of_copy.folder(stage) for stage in ("test", "base")] == [copy / "test", copy / "base"]
    assert Run(read_config(run / "meta/config.yaml")).source == run / "meta" / BEST


def test_a_moved_run_is_found_from_any_folder(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "elsewhere/renamed"
    place.parent.mkdir()
    run.rename(place)
    for folder, written_path in (
        (tmp_path, "elsewhere/renamed/meta/config.yaml"),
        (place, "meta/config.yaml"),
        (place / "meta", "config.yaml"),
        (place / "meta", "../meta/config.yaml"),
    ):
        monkeypatch.chdir(folder)
        weights = Run(read_config(written_path)).source
        assert isinstance(weights, Path) and weights.samefile(place / "meta" / BEST)


def test_the_command_lines_words_win(run: Path) -> None:
    path = run / "meta/config.yaml"
    assert Run(read_config(path, ["run.name=again"])).folder("meta") == run.with_name("again") / "meta"
    assert Run(read_config(path, ["run.folder=other"])).folder("meta") == Path("other", run.name, "meta")


def test_links_lead_to_the_run_of_the_file(run: Path, tmp_path: Path) -> None:
    moved = run.rename(run.with_name("moved"))
    (tmp_path / "latest.yaml").symlink_to(moved / "meta/config.yaml")
    (tmp_path / "latest").symlink_to(moved / "meta")
    for path in (tmp_path / "latest.yaml", tmp_path / "latest/config.yaml"):
        assert Run(read_config(path)).folder("meta") == moved / "meta"


def test_a_copy_of_the_config_alone_says_itself_which_run_it_is_of(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    shutil.copy(run / "meta/config.yaml", path)
    assert Run(read_config(path)).folder("meta") == run / "meta"


def test_a_name_of_several_parts_stays(mini_yaml, tmp_path: Path) -> None:
    folder = written(Run(read_config(mini_yaml(run={"name": "lr/a"}))), "meta")
    assert read_config(folder / "config.yaml").run.name == "lr/a"


def test_stages_of_five_shots_and_tests_belong_to_their_run(mini_yaml, tmp_path: Path) -> None:
    folder = written(Run(read_config(mini_yaml(), ["data.shot=5"])), "meta")
    copy = tmp_path / "copy"
    for part in ("meta_5shot", "test_5shot/pascal"):
        shutil.copytree(folder, copy / part)
        assert Run(read_config(copy / part / "config.yaml")).folder("meta") == copy / "meta_5shot"


@pytest.mark.parametrize(("base", "found"), [("runs/tiny/base", "copies/tiny/base"), ("shared/base", "shared/base")])
def test_the_base_stage_of_a_copied_run(base: str, found: str, mini_yaml, tmp_path: Path) -> None:
    run = Run(read_config(mini_yaml("bam", run={"base_folder": str(tmp_path / base)})))
    written(run, "meta")
    written(run, "base")
    shutil.copytree(tmp_path / "runs", tmp_path / "copies")
    assert Run(read_config(tmp_path / "copies/tiny/meta/config.yaml")).folder("base") == tmp_path / found
