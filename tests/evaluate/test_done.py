"""A test whose result is there is kept, and scored again with anything else that decides its scores."""

import json
import os
import re
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from model.encoders.settings import EncoderSettings, build_encoder
from tests.data.drawn import overwrite
from tests.helpers.narrow import NARROW
from tests.helpers.read import json_of, write_json
from util.config.read import read_config
from util.config.settings import Config, EvaluationSettings
from util.data.mini import generate
from util.evaluate import done
from util.evaluate.done import reason_to_test
from util.evaluate.evaluate import evaluate
from util.evaluate.evaluation import Evaluation
from util.evaluate.schema import MANIFEST, RESULT
from util.weights.origin import Origin

KEPT = ["data.workers=1", "test.batch=3", "protocols.symnet.episodes=7", "meta_stage.epochs=9"]
CHANGED = ["data.min_pixels=7", "test.seeds=[3]", "test.episodes=5", "run.precision=bf16", "protocols.bam.smooth=true"]
CHANGED += ["test.metrics=[boundary_iou]"]


def test_each_setting_of_a_test_says_what_it_decides() -> None:
    assert not [field.name for field in fields(EvaluationSettings) if "decides" not in field.metadata]


@pytest.fixture
def tested(mini_yaml, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Return the config of a test that was scored, its photos and encoder of its own, and what says if it is kept."""
    generate(tmp_path / "own", 16, 16, 64)
    draw(tmp_path / "encoder.pth", seed=1)
    model = {"encoder": {"backbone": NARROW, "weights": f"{tmp_path}/encoder.pth"}}
    data = {"root": f"{tmp_path}/own"}
    path = mini_yaml("prototype", model=model, data=data, test={"protocol": "bam", "episodes": 4, "seeds": [0]})
    evaluate(read_config(path))

    def kept(*overrides: str) -> str:
        capsys.readouterr()
        [result] = evaluate(read_config(path, [*overrides]), keep=True).values()
        assert result["vectors"] is None and len(result["per_seed"]) == 1
        return capsys.readouterr().out.partition(":")[0]

    return read_config(path), kept


def draw(encoder: Path, seed: int) -> None:
    """Write the weights of an encoder, always of one time."""
    torch.manual_seed(seed)
    torch.save(build_encoder(EncoderSettings(backbone=NARROW, stem="plain", weights=None)).state_dict(), encoder)
    os.utime(encoder, (0, 0))


def reason(config: Config, *overrides: str) -> str:
    return reason_to_test(Evaluation(read_config(config.source, [*overrides])))


@pytest.mark.train
def test_a_result_is_kept_unless_what_decides_its_scores_changed(tested, tmp_path: Path, monkeypatch) -> None:
    """Names, times and sizes are the same: the content decides."""
    config, kept = tested
    assert kept() == kept(*KEPT) == "kept"
    assert not reason(config, f"data.cache={tmp_path}/other")
    for override in CHANGED:
        key, _, _ = override.removeprefix("protocols.bam.").partition("=")
        assert re.search(f"{key}|no result yet", reason(config, override)), override
    draw(tmp_path / "encoder.pth", seed=2)
    assert ("other weights" in reason(config), kept(), kept()) == (True, "scored again", "kept")
    images = Evaluation(config).images
    query = images.queries[0]
    for file in (images.index.images[query], images.index.masks[query]):
        content = bytearray(file.read_bytes())
        content[-9] ^= 1
        before = shutil.copy2(file, tmp_path / "before")
        overwrite(file, content)
        assert "other photos or masks" in reason(config)
        shutil.copy2(before, file)
        assert not reason(config)
    monkeypatch.setattr(done, "shared_code", lambda: {"util.data": "other"})
    assert re.search(r"other code.*\(util.data\)", reason(config))


@pytest.mark.train
def test_a_result_that_is_damaged_or_lacks_its_episodes_is_scored_again(tested) -> None:
    config, kept = tested
    path = Evaluation(config).folder / RESULT
    path.with_name(MANIFEST).unlink()
    assert kept() == "scored again"
    content = json_of(path)
    for now in ({"vectors": "of others"}, {"weights_mark": "foreign"}, {"code": {"model.other": "1"}}):
        write_json(path, content | now)
        assert bool(reason(config)) == (now.keys() != {"vectors"})  # of a method that reads none
    path.write_text(json.dumps(content)[:-9])
    assert reason(config) == "the result there cannot be read"


def test_text_vectors_and_foreign_weights_tell_tests_apart(mini_yaml) -> None:
    path = mini_yaml("symnet", data={"text": "names"})
    tests = [Evaluation(read_config(path, [f"test.checkpoint={place}/best.pth"])) for place in "ab"]
    assert Origin(vectors="a").differences(Origin(vectors=done.facts_today(tests[0])["vectors"]()))
    assert tests[0].folder != tests[1].folder


def test_what_is_not_known_is_no_difference_and_an_empty_list_is_one() -> None:
    now = Origin(training=[], vectors="a", code={"model.ssp": "1", "util.data": "2"})
    assert not Origin().differences(now) and not Origin(code={"model.ssp": "1"}).differences(now)
    said = Origin(training=[1], vectors="b", code={"model.ssp": "0"}).differences(now)
    assert [text.partition(" (")[0] for text in said] == [
        *("other text vectors", "other code of the method", "another training of the weights"),
    ]
    assert Origin(code={"model.bam": "1"}).differences(now)
