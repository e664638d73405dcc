"""The commands' choice of a config, and ``--print-config``: every value with where it comes from, to be read again."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import REPOSITORY
from util.config import command_line
from util.config.read import read_config, to_dict
from util.errors import UserError


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["config/pascal/pascal_split0_resnet50.yaml"], "pascal_split0_resnet50"),
        (["split0", "pascal", "--model", "dcama", "--net", "swin_b"], "pascal_split0_dcama_swin_b"),
        (["split3", "coco", "--net", "resnet50_plus"], "coco_split3_resnet50_plus"),
    ],
)
def test_a_printed_config_reads_back_equal(tmp_path: Path, capsys, words: list[str], name: str) -> None:
    overrides = ["--set", "run.seed=7", "--set", "meta_stage.optimizers.main.lr=3e-5"]
    options = command_line.parser(None).parse_args(["--print-config", *words, *overrides])
    assert command_line.show(options)
    text = capsys.readouterr().out
    (tmp_path / "copy.yaml").write_text(text)
    config, again = command_line.read(options), read_config(tmp_path / "copy.yaml")
    assert config.run.name == name and again == config and to_dict(again) == to_dict(config)
    assert all(line.endswith(":") or "  # " in line for line in text.splitlines())


def test_each_value_says_where_it_comes_from(capsys) -> None:
    words = ["--print-config", "split2", "pascal", "--model", "ssp", "--set", "data.shot=5"]
    command_line.show(command_line.parser(None).parse_args(words))
    lines = [line.strip().partition("  # ") for line in capsys.readouterr().out.splitlines()]
    source = {setting.partition(":")[0]: place for setting, _, place in lines}
    names = {setting.strip(): place for setting, _, place in lines}
    assert names["name: pascal_split2_ssp_resnet50"] == "composed: the config's name"
    assert (source["shot"], source["fold"]) == ("--set data.shot=5", "composed: fold")
    assert source["image_suffix"] == "default" and source["backbone"].startswith("config/encoder/resnet50.yaml:")
    file, line = source["refine"].split(":")
    assert file == "config/model/ssp.yaml" and "refine" in Path(file).read_text().splitlines()[int(line) - 1]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["split1"], "cannot read this config"),
        (["split1", "pascal", "4"], "name one YAML file, or an experiment and a data set"),
        (["config/mini/mini_split0_resnet10.yaml", "--net", "vgg16"], "--net .* go with"),
        (["split1", "pascal", "--model", "sspp"], "did you mean 'ssp'"),
    ],
)
def test_words_that_name_no_config_are_refused(words: list[str], part: str) -> None:
    with pytest.raises(UserError, match=part):
        command_line.read(command_line.parser(None).parse_args(words))


@pytest.mark.process
@pytest.mark.parametrize("script", ["train.sh", "predict.py"])
def test_without_the_packages_the_first_command_is_named(script: str, tmp_path: Path) -> None:
    """A folder without ``.venv``, and a Python that has the standard library alone."""
    for folder in ("util", "model"):
        (tmp_path / folder).symlink_to(REPOSITORY / folder)
    shutil.copy(REPOSITORY / script, tmp_path)
    bare = tmp_path / "bin/python3"
    bare.parent.mkdir()
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    words = ["sh" if script.endswith("sh") else bare, tmp_path / script, "split0", "pascal", "0"]
    done = subprocess.run(words, env={"PATH": f"{bare.parent}:/usr/bin:/bin"}, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith("error: the package 'torch' is not installed") and "first run: " in done.stderr
