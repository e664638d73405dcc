"""FSS-SAM3 and GF-SAM: the published numbers around tiny random networks, shots, classes, names, and what loads."""

import dataclasses
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from model.episode import EpisodeOfOriginalSizes, NamedEpisode
from model.mismatch import ModelMismatch
from model.sam3 import sam3 as canvas
from tests.helpers.close import close
from tests.model.small import drawn_episode, small_model
from tests.model.tiny import saved
from tests.parity.foundation import deviations_of_foundation, foundation_cases, require_transformers
from util.weights.hub import load_from_hub

BOTH = pytest.mark.parametrize("name", ["sam3", "gfsam"])


@pytest.mark.parametrize(
    ("layout", "several"),
    [
        ("vertical", [1]),
        ("horizontal", [1]),
        ("l_shape", [5]),
        *((f"{x}_strip", [2, 3, 5]) for x in ("horizontal", "vertical")),
    ],
)
def test_rectangles_tile_the_canvas_without_overlap(layout: str, several: list[int]) -> None:
    for shots in several:
        seen, places = np.zeros((101, 101), int), canvas.rectangles(shots, 101, layout, 0.37)
        for x, y, width, height in places:
            seen[y : y + height, x : x + width] += 1
        assert (seen == 1).all() and len(places) == shots + 1


def test_a_box_is_of_the_largest_part_that_touches_by_sides_or_corners() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[2:4, 3:5] = mask[4:6, 5:7] = 1  # two squares that meet at a corner
    mask[10:12, 10:13] = 1
    mask[15:20, 0:30] = 255
    assert canvas.box_of(mask).tolist() == [3, 2, 4, 4]


@torch.no_grad()
@pytest.mark.parametrize("shots", [5, 7])
def test_many_shots_lie_on_canvases_of_at_most_five(shots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network, episode = small_model("sam3", shots), drawn_episode("sam3", shots, 1)
    seen, search = [], network.search
    monkeypatch.setattr(network, "search", lambda *given: seen.append((len(given[1]), search(*given))) or seen[-1][1])
    output = network(episode)
    assert [count for count, _ in seen] == {5: [5], 7: [4, 3]}[shots]
    presence = torch.stack([presence_features[0] for _, (_, presence_features) in seen]).mean()
    assert output.presence_features.shape == (1, 1, 2) and torch.isclose(output.presence_features[0, 0, 0], presence)


@BOTH
@torch.no_grad()
def test_empty_supports_are_left_out_and_without_any_all_is_background(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    network, episode = small_model(name, 2), drawn_episode(name, 2, 1)
    alone = dataclasses.replace(episode, support=episode.support[:, :1], support_label=episode.support_label[:, :1])
    labels = episode.support_label.clone()
    labels[:, 1][labels[:, 1] == 1] = 255
    with_empty = network(dataclasses.replace(episode, support_label=labels))
    torch.testing.assert_close(with_empty.logits, network(alone).logits)
    with caplog.at_level("INFO", "symnet"):
        nothing = network(dataclasses.replace(episode, support_label=torch.full_like(labels, 255)))
    assert (nothing.logits.argmax(1) == 0).all() and (nothing.presence_features == 0).all()
    assert "no support shows a pixel of the object" in caplog.text


@BOTH
@torch.no_grad()
def test_several_classes_compete(name: str) -> None:
    network, episode = small_model(name, 1), drawn_episode(name, 1, 2)
    other = dataclasses.replace(drawn_episode(name, 1, 2, seed=5), query=episode.query)
    alone, output = network(episode), network.forward_classes([episode, other])
    assert output.logits.shape == (2, 3, *episode.query.shape[-2:]) and output.presence_features.shape == (2, 2, 2)
    assert close(output.presence_features[:, :1], alone.presence_features)
    assert not (output.logits[:, 1] > 0)[alone.logits.argmax(1) == 0].any()  # no class gains pixels by competing


@BOTH
@torch.no_grad()
def test_photos_of_unequal_sizes_and_of_one_pixel_are_predicted(name: str) -> None:
    network, square = small_model(name, 2), drawn_episode(name, 2, 1, size=60)
    support = [square.support[:, 0, :, :40], square.support[:, 1, :, :1, :33]]
    label = [square.support_label[:, 0, :40], torch.ones_like(square.support_label[:, 1, :1, :33])]
    own = {"query": square.query[..., :50, :], "support": support, "support_label": label}
    assert network(EpisodeOfOriginalSizes(**{**vars(square), **own})).logits.shape == (1, 2, 50, 60)


@torch.no_grad()
def test_names_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    library = require_transformers()
    folder = tmp_path / "sam3"
    shutil.copytree(saved("Sam3Model"), folder)
    network = small_model("sam3", 1, words="names")
    network.task = dataclasses.replace(network.task, classes=("cup", "dog", "tree"))
    episode = drawn_episode("sam3", 1, 1)
    with pytest.raises(ModelMismatch, match="has no tokenizer, which names need"):
        network(episode)
    words = {"<unk>": 0, "<s>": 1, "</s>": 2, "cup": 3, "mug": 4, "visual": 5}
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    library.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)
    network.tokenizer = load_from_hub("AutoTokenizer", str(folder))
    assert network._prompt(episode, 0)[0, 0, 0] == words["cup"]
    mug = NamedEpisode(**vars(episode), name="mug")
    assert network._prompt(mug, 0)[:, 0, :2].tolist() == [[words["mug"], 0], [1, 0]]
    assert not close(network(mug).logits, network(episode).logits)
    network.settings.words = "none"
    assert network._prompt(mug, 0)[0, 0, 0] == words["visual"]


def test_a_module_that_cannot_be_loaded_is_named_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library, folder = require_transformers(), tmp_path / "dino"
    shutil.copytree(saved("Dinov2Model"), folder)
    state = load_file(folder / "model.safetensors")
    state.pop("layernorm.weight")
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelMismatch, match=r"lacks 1 tensors of Dinov2Model, such as layernorm.weight"):
        load_from_hub("Dinov2Model", str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelMismatch, match=r"holds no such network .* config.json and model.safetensors"):
        load_from_hub("Dinov2Model", str(folder))
    with pytest.raises(ModelMismatch, match=r"lacks .* tensors of SamModel|holds no such network"):
        load_from_hub("SamModel", saved("Dinov2Model"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelMismatch, match=r"nobody/nothing: holds no such network .* a network of the hub") as error:
        load_from_hub("SamModel", "nobody/nothing")
    assert "\n" not in str(error.value)
    with pytest.raises(ModelMismatch, match=r"needs NoSuchModel .* pip install 'transformers>=5' \(Python 3.11"):
        load_from_hub("NoSuchModel", str(folder))
    gated = mock.Mock(side_effect=OSError("You are trying to access a gated repo.\n403 Client Error."))
    monkeypatch.setattr(library.Sam3Model, "from_pretrained", gated)
    with pytest.raises(ModelMismatch, match=r"facebook/sam3: .*access a gated repo.* 403 Client.*; name a folder"):
        load_from_hub("Sam3Model", "facebook/sam3")
    with torch.device("meta"):  # for sizes a config is enough
        shapes = sorted(tuple(x.shape) for x in load_from_hub("Dinov2Model", str(folder)).parameters())
    stored = load_file(Path(saved("Dinov2Model"), "model.safetensors"))
    assert shapes == sorted(tuple(x.shape) for x in stored.values())


@pytest.mark.parity
@pytest.mark.parametrize(("name", "stem"), foundation_cases())
def test_a_measured_case_is_reproduced(name: str, stem: str) -> None:
    require_transformers()
    assert deviations_of_foundation(name, stem) == []
