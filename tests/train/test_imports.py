"""A method of another repository: `imports` of a config name it, every command knows it, no checkpoint imports it."""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from model import contract, registry
from model.registration import REGISTRIES
from tests.helpers import spawned
from tests.helpers.method_of_mine import METHOD
from tests.helpers.paths import REPOSITORY
from tests.helpers.read import json_of
from util.config import registry as kinds  # noqa: F401  which all are registered then
from util.config.read import from_dict, read_config, to_dict
from util.files.errors import UserError
from util.run.folder import UNKNOWN, RunFolder
from util.run.run import Run
from util.weights import checkpoint
from util.weights.code import code_of_run

BARE = """from model.contract import FewShotMethod, ModelSettings, register

@register("bare")
class Bare(FewShotMethod):
    Settings, title = ModelSettings, "Bare"
"""


@pytest.fixture
def mine(mini_yaml, tmp_path: Path) -> Iterator[Path]:
    """Return a folder of another repository with a method in ``code/mylab/mine.py``, and a config that names it."""
    registry.methods()
    before = {title: dict(kind) for title, kind in REGISTRIES.items()}
    modules, paths = set(sys.modules), list(sys.path)
    folder = tmp_path / "repository"
    (folder / "code/mylab").mkdir(parents=True)
    (folder / "code/mylab/mine.py").write_text(METHOD)
    stage = {"epoch_length": 4, "validate_every": 0, "optimizers": {"main": {"kind": "rms_of_mine", "lr": 1e-4}}}
    test = {"episodes": 2, "seeds": [0], "metrics": ["dice_of_mine", "spread_of_mine"]}
    path = mini_yaml("ssp", meta_stage=stage, test=test, model={"name": "ssp_of_mine"}, run={"name": "mine"})
    content = yaml.safe_load(path.read_text())
    content["data"] |= {"workers": 2, "modalities": {"grey": "grey_of_mine"}}
    (folder / "mine.yaml").write_text(yaml.safe_dump({"imports": ["./code/mylab/mine.py"], **content}))
    yield folder
    for title, kind in REGISTRIES.items():
        kind.clear()
        kind.update(before[title])
    for name in {*sys.modules} - modules:
        if name.startswith(("mine", "mylab", "symnet")):
            del sys.modules[name]
    sys.path[:] = paths


def test_a_config_imports_files_beside_it_once(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = read_config(mine / "mine.yaml")
    whole = str((mine / "code/mylab/mine.py").resolve())
    assert config.imports == [whole]
    cls = registry.class_of(config.model)
    assert (cls.title, cls.__module__) == ("SSP (ssp_of_mine)", "mine")
    ssp = registry.methods()["ssp"]
    assert all("mine" in code_of_run(ssp, part) for part in (config.test, config.data))  # of the metric, second image
    monkeypatch.chdir(mine)
    folder = RunFolder(mine / "runs/mine/meta")
    folder.describe(to_dict(config))
    folder.close()
    assert yaml.safe_load((folder.path / "config.yaml").read_text())["imports"] == ["../../../code/mylab/mine.py"]
    assert registry.class_of(read_config(folder.path / "config.yaml").model) is cls
    copied = Path(shutil.copytree(folder.path, mine / "of/another/depth/runs/mine/meta"))
    assert read_config(copied / "config.yaml").imports == [whole]  # in the working folder
    assert json_of(folder.path / "environment.json")["imports"] == {whole: UNKNOWN}
    (mine / "code/mine.py").write_text("1 / 0")  # of the same name
    (mine / "code/named.yaml").write_text("base: ../mine.yaml\nimports: [mylab/mine.py]")
    assert read_config(mine / "code/named.yaml").imports == [whole]
    (mine / "mine_bare.py").write_text(BARE)
    bare = f"base: {REPOSITORY}/config/mini/mini.yaml\nimports: [mine_bare.py]\nmodel: {{name: bare}}"
    (mine / "bare.yaml").write_text(bare)
    assert read_config(mine / "bare.yaml").model.encoder is None  # that of the data set is for other methods


@pytest.mark.parametrize(
    ("entry", "code", "said"),
    [
        ("mylab.missing", "", "mine.yaml:1: imports: mylab.missing cannot be imported: ModuleNotFoundError: No module"),
        (
            "missing.py",
            "",
            r"missing.py is neither there, nor beside the config.*; copy it there, or .* imports=\[PATH\]",
        ),
        (
            "bad.py",
            "x = 1\ny = z\n",
            r"bad.py cannot be imported: NameError: name 'z' is not defined \(.*bad.py, line 2",
        ),
        ("bad.py", "import model.x_y", r"No module named 'model.x_y' \(.*bad.py, line 1\); mend it, or install what"),
        (
            "bad.py",
            "x = 1\ndef f(:",
            r"bad.py cannot be imported: SyntaxError: invalid syntax \(bad.py, line 2\); mend",
        ),
        ("json.py", "", "another module is called json .*; rename the file"),
        (
            "bad.py",
            "from model.contract import *\n@register('ssp')\nclass A(FewShotMethod):\n  title = 'A'",
            r"model.name 'ssp' is registered twice, by model.ssp.ssp \(.*ssp.py\) and bad \(.*bad.py\); rename one",
        ),
        (
            "bad.py",
            "from model.contract import *\n@register('a')\nclass A(FewShotMethod):\n  grids = title = shots_of = 1",
            "TypeError: A: shots_of is now trained_shots, grids is now in `wants`, Settings is missing; see docs/new",
        ),
        (
            "bad.py",
            "from model.contract import *\nfrom model.method import *\n@register('a')\nclass A(Method):\n  title = 'A'",
            "TypeError: A: Settings is missing, predict is missing, support is missing; see docs/new_method.md",
        ),
        (
            "bad.py",
            "from symnet.util.config.registry import register\nregister('optimizer', 'sgd', 1)(lambda: 0)",
            r"kind 'sgd' is registered twice, by util.loop.optimizer_kinds \(.*\) and bad ",
        ),
    ],
)
def test_an_import_that_fails_is_one_line(mine: Path, entry: str, code: str, said: str) -> None:
    if entry.endswith(".py") and entry != "missing.py":
        (mine / entry).write_text(code)
    content = yaml.safe_load((mine / "mine.yaml").read_text())
    del content["imports"]
    (mine / "mine.yaml").write_text(f"imports: [{entry}]\n{yaml.safe_dump(content)}")
    sys.modules.pop("bad", None)
    with pytest.raises(UserError, match=said):
        read_config(mine / "mine.yaml")


def test_a_checkpoint_imports_nothing_and_names_the_module_to_import(mine: Path) -> None:
    content = to_dict(read_config(mine / "mine.yaml"))
    assert registry.class_of(from_dict(content, "a.pth").model).title == "SSP (ssp_of_mine)"  # known by now
    del contract.METHODS["ssp_of_mine"]
    sys.modules.pop("mine", None)
    with pytest.raises(
        UserError, match=r"a.pth: model.name = 'ssp_of_mine': no such method.* it was made with .*mine.py: .*--config"
    ):
        from_dict(content, "a.pth")
    assert "mine" not in sys.modules


@pytest.mark.process
@pytest.mark.train
def test_a_method_of_ones_own_file_is_trained_tested_and_verified(mine: Path) -> None:
    """Train with loader processes; test the config that the run keeps; verify the result."""
    config = read_config(mine / "mine.yaml")
    spawned.run(f"{REPOSITORY}/train.py", f"{mine}/mine.yaml")
    meta = Run(config).folder("meta")
    assert "mine_plain" in json_of(meta / "metrics.json")["epochs"][0]["losses"]
    assert {"mine", "model.ssp.ssp"} <= checkpoint.read(meta / "best.pth").entries["code"].keys()
    spawned.run(f"{REPOSITORY}/test.py", f"{meta}/config.yaml")
    (path,) = meta.parent.glob("test/*/result.json")
    result = json_of(path)
    assert (result["model"], result["method"]) == ("ssp_of_mine", "SSP (ssp_of_mine)")
    assert result["mean"]["final"]["dice_of_mine"] >= 0
    unknown = " ".join(spawned.run(f"{REPOSITORY}/report.py", "verify", path).stdout.split())
    agree = "scores and episodes agree; not checked: list, draw, code, weights, training photos, metrics at end"
    assert re.search(f"it was made with.*{agree}", unknown)
    own = "--import", f"{mine}/code/mylab/mine.py"
    known = spawned.run(f"{REPOSITORY}/report.py", "verify", path, *own)
    assert not re.search(r"DIFFERS|it\s+was\s+made\s+with", known.stdout)
    share = "predict.py", "share", "--checkpoint", f"{meta}/best.pth", "--out", f"{meta}/shared"
    assert "by --import of report.py or predict.py" in spawned.run(*share, check=2).stderr
    assert "reads grey beside colours, which own photos lack" in spawned.run(*share, *own, check=2).stderr
