"""A training that begins anew takes the tests of the weights that it replaces out of all tables, before these go."""

from pathlib import Path

import pytest

from tests.helpers.read import write_json
from tests.helpers.trained import train_meta
from util.config.place import DISCARDED, RESULT
from util.config.read import to_dict
from util.data.lists.index import load_index
from util.files.digests import PHOTO_DIGITS
from util.run import folder as run_folder
from util.run.build import build_model
from util.run.folder import BEST
from util.run.run import Run
from util.run.weights import load_weights
from util.weights import checkpoint

pytestmark = pytest.mark.train

STATED = {  # folder of a test -> mark and file of its weights
    "test/own": ("", "runs/tiny/meta/best.pth"),
    "test/own_last": ("last", "elsewhere/copy/meta/last.pth"),  # before the run was moved
    "test_5shot/own": ("", "runs/tiny/meta/best.pth"),  # by the same weights
    "test_5shot/of_five": ("", "runs/tiny/meta_5shot/best.pth"),
    "test/untrained": ("untrained", "untrained"),
    "test/foreign": ("foreign", "runs/other/meta/best.pth"),
}
BEFORE = "f" * PHOTO_DIGITS  # the photo of a training before
REPLACED = {"test/own", "test/own_last", "test_5shot/own"}


def base_of_another_run(run: Run) -> Path:
    """Write the base stage's checkpoint of a run, trained on one photo, and return its path."""
    weights = build_model(run.config, run.text_width).base_stage().state_dict()
    file = run.folder("base").with_name("other") / BEST
    checkpoint.save(file, {"stage": "base", "config": to_dict(run.config), "weights": weights, "photos": BEFORE})
    return file


def test_tests_of_replaced_weights_are_in_no_table(
    mini_config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also if the command is killed as soon as the first file of the training has gone.

    A checkpoint names the photos of its training, and of the one that its encoder came from.
    """
    encoder = {"weights": str(base_of_another_run(Run(mini_config("bam"))))}
    assert load_weights(Run(mini_config("prototype", model={"encoder": encoder}))).stored.photos == {BEFORE}
    run = Run(mini_config("ssp", meta_stage={"validate_every": 0, "epoch_length": 4}, model={"encoder": encoder}))
    with caplog.at_level("INFO", "symnet"):
        assert train_meta(run.config, resume=True) == 0
    assert f"finished: {run.folder('meta') / BEST}, the last weights" in caplog.text
    assert f"next: python test.py {run.config.source.file}\n" in caplog.text
    assert "meta stage: begins in " in capsys.readouterr().out
    photos = checkpoint.read(run.folder("meta") / BEST).photos
    index = load_index(run.config.data, "train")
    assert photos.difference(map(index.photo_digest, range(len(index)))) == {BEFORE} < photos
    folder = tmp_path / "runs/tiny"
    for name, (mark, weights) in STATED.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        write_json(folder / name / RESULT, {"weights_mark": mark, "checkpoint": weights})

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(run_folder, "_delete", killed)
        train_meta(run.config, overwrite=True)
    for file, names in ((DISCARDED, REPLACED), (RESULT, STATED.keys() - REPLACED)):
        assert {path.parent for path in folder.rglob(file)} == {folder / name for name in names}
