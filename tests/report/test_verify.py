"""``report verify``: a result against its files, data and weights."""

import json
import math
import shutil
from functools import reduce
from operator import getitem
from pathlib import Path
from runpy import run_path

import pytest

from tests.evaluate.quick import FEW, PROTOTYPE, new_checkpoint, quick_config
from tests.helpers.paths import REPOSITORY
from tests.helpers.scored import score
from util.config.read import read_config
from util.evaluate.evaluation import Evaluation
from util.evaluate.schema import MANIFEST, RESULT, read_result
from util.evaluate.titles import title
from util.files.errors import UserError
from util.report.compare import compare
from util.report.paper import paper_tables
from util.report.row import Row
from util.report.verify import AGREES, DIFFERS, OLDER, UNCHECKED, checks_of, verify
from util.run.data import photos_listed
from util.run.run import Run
from util.weights import checkpoint

pytestmark = pytest.mark.train
WITH_BASE = "bam"  # a method that predicts base classes, too


@pytest.fixture
def result(mini_yaml, tmp_path: Path) -> Path:
    """Return the folder of a new result."""
    score(quick_config(mini_yaml, WITH_BASE, "test.metrics=[boundary_iou]"))
    (file,) = (tmp_path / "runs").rglob(RESULT)
    return file.parent


def subjects(folder: Path, outcome: str) -> set[str]:
    """Return the subjects of a result's checks that have an outcome."""
    path = folder / RESULT
    checks = checks_of(Row(path, read_result(path)))
    return {subject for subject, (other, _) in checks.items() if other == outcome}


def edit(file: Path, keys: list, value: object, line: int = 0) -> None:
    """Set a value in the JSON of a file, or of one of its lines."""
    texts = file.read_text().splitlines() if line else [file.read_text()]
    content = json.loads(texts[line])
    *places, last = keys
    reduce(getitem, places, content)[last] = value
    texts[line] = json.dumps(content)
    file.write_text("\n".join(texts))


EDITS = [  # file, line, keys, value, and the checks that then differ
    (MANIFEST, 4, ["query"], "other", {"episodes"}),
    (MANIFEST, 4, ["outputs", "final", 0], 1, {"scores"}),
    (MANIFEST, 4, ["boundary_iou", "final", 0], 5, {"scores"}),
    (MANIFEST, 4, ["seed"], 9, {"episodes", "scores"}),
    (RESULT, 0, ["mean", "final", "miou"], 99.0, {"scores"}),
    (RESULT, 0, ["shot"], 5, {"scores", "weights"}),
    (RESULT, 0, ["fold"], 1, {"scores"}),
    (RESULT, 0, ["per_seed", 0, "all_foreground", "per_class", "1"], 1.0, {"scores"}),
    (RESULT, 0, ["per_seed", 0, "final", "dice"], 99.0, {"scores"}),
    (RESULT, 0, ["per_seed", 0, "final", "per_class", "7"], 99.0, {"scores"}),
    (RESULT, 0, ["novel", "1"], "unicorn", {"scores"}),
    (RESULT, 0, ["novel", "7"], "unicorn", {"scores"}),
    (RESULT, 0, ["episodes"], 10**12, {"scores"}),
    (RESULT, 0, ["episode_digests"], [], {"episodes"}),
    (RESULT, 0, ["seeds"], [999, 1], {"scores", "episodes"}),
    (MANIFEST, 4, ["boundary_iou", "final", 0], math.nan, {"scores"}),
    (MANIFEST, 4, ["class"], 10**30, {"scores", "episodes"}),
    (MANIFEST, 4, ["outputs", "final", 0], 10**30, {"scores", "episodes"}),
    (MANIFEST, 4, ["outputs", "final"], [0] * 999, {"scores", "episodes"}),
    (RESULT, 0, ["list"], "0" * 64, {"list"}),
    (RESULT, 0, ["weights"], "0" * 64, {"weights"}),
    (RESULT, 0, ["training"], [{}], {"weights"}),
    (RESULT, 0, ["photos_listed"], 3, {"training photos"}),
]


REFUSED = [  # keys and value of a result that no command reads
    (["per_seed", 1, "final"], {}),
    (["per_seed", 0, "final", "per_class"], 1.0),
    (["mean", "mine"], {"miou": 99.0}),
    (["seeds"], []),
    (["config", "data"], None),
    (["config", "protocols"], [1]),
    (["protocol_settings"], {}),
]


def test_edited_files_are_noticed(result: Path, capsys) -> None:
    assert subjects(result, AGREES) == {"scores", "episodes", "list", "draw", "code", "weights", "training photos"}
    assert verify([result]) == 0
    said = "\nscores and episodes agree; not checked: base; not the protocol's number (quick look, "
    assert said in capsys.readouterr().out
    for file, line, keys, value, differing in EDITS:
        whole = (result / file).read_text()
        edit(result / file, keys, value, line)
        assert subjects(result, DIFFERS) - {"draw"} == differing, keys
        (result / file).write_text(whole)
    for keys, value in REFUSED:
        whole = (result / RESULT).read_text()
        edit(result / RESULT, keys, value)
        with pytest.raises(UserError, match="is no result of a test"):
            verify([result])
        (result / RESULT).write_text(whole)
    (result / MANIFEST).unlink()
    assert verify([result]) == 1
    assert "verification failed (scores, episodes)" in capsys.readouterr().out


def test_an_output_that_episodes_do_not_count_never_agrees(mini_yaml, tmp_path: Path) -> None:
    score(quick_config(mini_yaml, PROTOTYPE, *FEW))
    (path,) = (tmp_path / "runs").rglob(RESULT)
    scores = {"miou": 99.0, "per_class": {}}
    for keys, value in ((["per_seed", 0], scores), (["mean"], {"miou": 99.0}), (["deviation"], {"miou": 0.0})):
        edit(path, [*keys, "base"], value)
    assert subjects(path.parent, DIFFERS) == {"base"}


def test_a_record_of_other_code_is_older_unless_it_claims_this_commit(result: Path, monkeypatch, capsys) -> None:
    path = result / RESULT
    for key in ("photos_listed", "photos_trained_on"):
        edit(path, [key], None)
    edit(path, ["code", "util.data"], "0" * 64)
    edit(path, ["environment"], {"commit": "1" * 40, "changed_files": 0})
    assert subjects(result, OLDER) == {"code"} and subjects(result, UNCHECKED) == {"base", "training photos"}
    assert verify([result]) == 0
    printed = capsys.readouterr().out
    assert printed.count("scored at commit 11111111; changed since: util.data") == 1
    assert "older than this code" in printed
    monkeypatch.setattr("util.report.verify.environment", lambda: {"commit": "1" * 40, "changed_files": 0})
    assert subjects(result, DIFFERS) == {"code"}


LISTED, TRAINED_ON = "TEST PHOTOS IN THE TRAINING LIST (2)", "TRAINED ON TEST PHOTOS (1)"


def test_a_result_counts_test_photos_that_were_trained_on(mini_yaml, tmp_path: Path, capsys) -> None:
    """By their contents where the weights state them, else by the names in the training list."""
    data = shutil.copytree(read_config(mini_yaml()).data.root, tmp_path / "data")
    settings = f"data.root={data}", "test.checkpoint=best", *FEW
    config = quick_config(mini_yaml, WITH_BASE, *settings, "data.exclude_novel=false")
    images = Evaluation(config).images
    lists = data / "ImageSets/Segmentation"
    seen = [images.index.names[row] for row in images.queries[:2]]
    (lists / "train.txt").write_text((lists / "train.txt").read_text() + "".join(f"{name}\n" for name in seen))
    path = new_checkpoint(config, Run(config).folder("meta") / "best.pth")
    content = checkpoint.read(path).entries
    for photos, said in [
        (None, [LISTED]),
        ([], []),
        ([images.index.photo_digest(images.queries[0]), "0" * 16], [TRAINED_ON]),
    ]:
        checkpoint.save(path, content | {"photos": None if photos is None else checkpoint.photos_text(photos)})
        (result,) = score(config)
        assert [text for text in (LISTED, TRAINED_ON) if text in title(result)] == said
        file = Run(config).folder("test")
        verify([file])
        assert "2 test photos are in the training list too" in capsys.readouterr().out
        assert "2 test photos are in the training list too" in str(*paper_tables([file], protocols=["symnet"]))
    assert photos_listed(images, Run(quick_config(mini_yaml, WITH_BASE, *settings))) == 0  # they show novel classes


def test_weights_of_another_training_are_marked(mini_yaml, capsys) -> None:
    """A short training of the run's own folder does not pass for the config's."""
    config = quick_config(mini_yaml, WITH_BASE)
    path = new_checkpoint(config, Run(config).folder("meta") / "best.pth")
    stored = checkpoint.read(path).entries
    stored["config"]["meta_stage"]["epochs"] += 1
    checkpoint.save(path, stored)
    (result,) = score(quick_config(mini_yaml, WITH_BASE, "test.checkpoint=best"))
    (other_settings,) = result["trained_otherwise"]
    assert "meta_stage.epochs" in other_settings
    assert "NOT FINISHED (step " in title(result) and "TRAINED WITH OTHER SETTINGS (meta_stage.epochs" in title(result)
    verify([Run(config).folder("test")])
    assert "not finished, trained with other settings" in " ".join(capsys.readouterr().out.split())


def test_code_and_weights_are_checked_without_the_data(result: Path, tmp_path: Path):
    path = result / RESULT
    data = Path(read_result(path)["config"]["data"]["root"])
    edit(path, ["config", "data", "root"], f"{tmp_path}/gone")
    edit(path, ["config", "data", "cache"], f"{tmp_path}/new")
    assert subjects(result, UNCHECKED) == {"list", "draw", "training photos", "base"}
    assert subjects(result, AGREES) == {"scores", "episodes", "code", "weights"}
    checks = checks_of(Row(path, read_result(path)), [f"data.root={shutil.copytree(data, tmp_path / 'elsewhere')}"])
    assert {subject for subject, (outcome, _) in checks.items() if outcome != AGREES} == {"base"}


def test_settings_of_a_former_version_that_decide_nothing_are_not_read(result: Path) -> None:
    path = result / RESULT
    edit(path, ["config", "test", "pictures"], 8)
    edit(path, ["config", "protocols", "symnet", "lost"], 0.0)
    assert subjects(result, UNCHECKED) == {"base"}
    edit(path, ["config", "protocols", "symnet", "lost"], 0.5)
    assert subjects(result, UNCHECKED) == {"list", "draw", "code", "weights", "training photos", "base"}


def test_a_kept_result_is_small_and_verified_as_the_whole_one(mini_yaml, tmp_path: Path) -> None:
    """Its paths are no machine's; others' episodes are not mixed with those there."""
    score(quick_config(mini_yaml, WITH_BASE, "test.seeds=[0]"))
    (path,) = (tmp_path / "runs").rglob(RESULT)
    keep = run_path(str(REPOSITORY / "docs/results/keep.py"))["keep"]
    kept = keep(path, tmp_path / "kept")
    whole, small = (compare(path, folder) for folder in (path, kept))
    assert small.rows == whole.rows and subjects(kept, DIFFERS) == set()
    assert {"scores", "episodes"} <= subjects(kept, AGREES)
    assert str(tmp_path) not in (kept / RESULT).read_text()
    edit(kept.parent / MANIFEST, ["query"], "other", line=4)
    assert subjects(kept, DIFFERS) == {"episodes"}
    with pytest.raises(UserError, match="has other episodes than"):
        keep(path, tmp_path / "kept")


def test_the_results_in_the_documents_are_read() -> None:
    """Only photos, and weights that no repository holds, are missing for a check."""
    for path in sorted((REPOSITORY / "docs/results").rglob("result.json")):
        stored = read_result(path)
        for subject, (outcome, reason) in checks_of(Row(path, stored), ["data.root=/absent"]).items():
            of_weights = stored["checkpoint"] in reason or "these weights do not exist" in reason
            needs_weights = subject in ("weights", "training photos") and of_weights
            assert outcome in (AGREES, OLDER) or needs_weights or "/absent" in reason, (path, subject, reason)
