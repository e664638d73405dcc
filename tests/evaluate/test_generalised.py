"""The protocol of generalised segmentation: its draw, its result and its files."""

from pathlib import Path

import pytest

from model.bcm import regression
from tests.evaluate.quick import SYMNET, new_checkpoint, quick_config
from tests.helpers.scored import score
from util.config.read import read_config
from util.evaluate.schema import RESULT, read_result
from util.files.errors import UserError
from util.report.pictures import draw_episodes
from util.report.verify import AGREES, checks_of
from util.run.context import make_run_context
from util.run.data import images_for_test, protocol_sampler

ENTRY = {"gfss": {"side": 65, "support_pixels": 100, "supports": "published"}}


@pytest.mark.parity
def test_the_published_supports_are_drawn(shared: Path, tmp_path: Path) -> None:
    places = [f"data.root={shared}/data/VOC2012", f"data.cache={tmp_path}"]
    context = make_run_context(read_config("config/pascal/bcm_lite0.yaml", places))
    protocol = context.config.protocols["gfss"]
    images = images_for_test(context, False, protocol)
    runs = {seed: protocol_sampler(context, images, protocol, seed) for seed in (1, 5, 6)}
    drawn = {}
    for seed, run in runs.items():
        drawn[seed] = [images.index.names[supports[0]] for _, supports in run(0).drawn]
    assert drawn[1] == ["2009_001851", "2011_000412", "2009_004895", "2010_004772", "2008_005904"]
    assert drawn[5] == ["2010_001448", "2008_002269", "2009_005262", "2008_001040", "2009_000121"]
    assert {len(run.keys) for run in runs.values()} == {364 - 5}


@pytest.mark.train
def test_a_result_is_verified_and_repeated_by_its_manifest(mini_yaml, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(regression, "PENALTIES", [1.0])
    made = new_checkpoint(quick_config(mini_yaml, SYMNET), tmp_path / "symnet.pth")  # of a method with a base learner
    bare = new_checkpoint(quick_config(mini_yaml, "ssp"), tmp_path / "ssp.pth")
    test = {"checkpoint": str(made), "seeds": [7], "episodes": 4, "pictures": 1}
    path = mini_yaml("bcm", test=test, protocols=ENTRY)
    (result,) = score(read_config(path))
    file = next((tmp_path / "runs").rglob(RESULT))
    checks = checks_of(file, read_result(file))
    assert {outcome for outcome, _ in checks.values()} == {AGREES}
    assert [picture.name for picture in draw_episodes(file, "png")] == ["episodes.png"]
    (again,) = score(read_config(path, ["test.pictures=0"]), manifest=file.with_name("episodes.jsonl"))
    assert again["per_seed"] == result["per_seed"]
    assert again["episode_digests"] == result["episode_digests"]
    for options, word in (
        (["data.fold=1"], "data.fold = 0, this run has 1"),
        (["protocols.gfss.support_pixels=99999"], "no support image for striped disc, dotted star"),
        (["test.protocol=symnet"], "protocol symnet .*take --protocol gfss"),
        (["test.edges=true"], "takes no test.metrics"),
        ([f"test.checkpoint={bare}"], "holds no base learner"),
    ):
        with pytest.raises(UserError, match=word):
            score(read_config(path, options))
