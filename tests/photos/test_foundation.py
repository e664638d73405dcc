"""FSS-SAM3 and GF-SAM by the names of their networks: configs, own photos, a test from a folder and its result."""

from pathlib import Path

import pytest

from model.registry import methods
from photos import Segmenter
from tests.helpers.outcome import run_script
from tests.helpers.read import config_of, json_of
from tests.model.tiny import networks_of, saved
from tests.parity.foundation import require_transformers
from util.config.compose import find_config
from util.files.errors import UserError

SHAPES = {"sam3": ["facebook/sam3"], "gfsam": ["facebook/sam-vit-huge", "facebook/dinov2-large"]}
EASY = ("model.threshold=0.01",)


@pytest.mark.parametrize("name", SHAPES)
def test_net_names_the_networks(name: str) -> None:
    config = config_of("split1", "coco", name)
    assert (config.model.weights, config.run.name) == (SHAPES[name], f"coco_split1_{name}")
    networks = [f"/models/my_{i}/net-{i}.v1" for i in range(len(SHAPES[name]))]
    config = config_of("split2", "pascal", name, ",".join(networks))
    assert (config.model.weights, config.data.fold) == (networks, 2)
    assert "/" not in config.run.name and config.model.encoder_name() == ",".join(networks)
    with pytest.raises(UserError, match=r"names 3 network\(s\); the method has those of NET=facebook"):
        config_of("split0", "pascal", name, "a/b,c/d,e/f")


def test_class_names_in_the_prompt_need_a_named_class(example_texts: dict) -> None:
    net, changes = saved("Sam3Model"), ["data.size=97", "model.words=names"]
    segmenter = Segmenter(
        [example_texts["box"]],
        config=f"split0 pascal --model sam3 --net {net}",
        overrides=changes,
        device="cpu",
    )
    assert any("have no class name, so none is read; write CLASS=" in note for note in segmenter.notes)


@pytest.mark.train
@pytest.mark.parametrize("name", SHAPES)
def test_a_test_from_folders_states_what_the_networks_learnt_from(
    name: str, mini_root: Path, tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_transformers()
    source = find_config("split0", "mini", name, ",".join(networks_of(methods()[name])))
    sets = [f"data.root={mini_root}", f"run.folder={tmp_path}", f"data.cache={tmp_path}", "run.device=cpu"]
    sets += ["data.workers=0", "data.min_pixels=16", "test.episodes=4", *(EASY if name == "sam3" else ())]
    words = [word for text in sets for word in ("--set", text)]
    done = run_script("test.py", (*str(source).split(), *words, "--protocol", "symnet"), capfd, monkeypatch)
    assert done.code == 0, done.errors
    (path,) = tmp_path.rglob("result.json")
    result = json_of(path)
    track, data = result["track"], {"sam3": "SA-Co", "gfsam": "LVD-142M, SA-1B"}
    assert (track["encoder_data"], track["text"], track["training"]) == (data[name], False, "none")
    assert result["encoder_licence"] == {"sam3": "SAM License", "gfsam": "apache-2.0"}[name]
