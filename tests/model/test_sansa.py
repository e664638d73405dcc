"""SANSA beside its published network on drawn images; its adapters, their files, its memories, what is refused."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.mismatch import ModelMismatch
from model.sansa.sansa import FLAGS, SANSA, SANSASettings
from tests.helpers.close import close
from tests.helpers.read import config_of, json_of
from tests.helpers.trained import train_meta
from tests.model.small import drawn_episode, small_model, task_of
from tests.model.tiny import SAM2, saved
from tests.parity.drawn.weights import filled
from tests.parity.foundation import require_transformers
from tests.parity.sansa import FOLDER, deviations_of_sansa
from util.files.errors import UserError
from util.run.run import Run
from util.run.weights import load_weights
from util.weights import checkpoint
from util.weights.checkpoint import Checkpoint
from util.weights.fill import fill
from util.weights.hub import load_from_hub

TASK = task_of("sansa", 1)
SMALL = ["mask_1shot", "mask_1shot_rect", "mask_5shot", "mask_8shot", "train_mask"]
WIDE = {  # sizes of the image encoder of SAM 2.0
    "large": {
        "hidden_size": 144,
        "blocks_per_stage": [2, 6, 36, 4],
        "embed_dim_per_stage": [144, 288, 576, 1152],
        "global_attention_blocks": [23, 33, 43],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
    },
    "base-plus": {
        "hidden_size": 112,
        "blocks_per_stage": [2, 3, 16, 3],
        "embed_dim_per_stage": [112, 224, 448, 896],
        "global_attention_blocks": [12, 16, 20],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
    },
    "tiny": {},
}


def of_size(size: str, factor: float = 0.3) -> SANSA:
    """Return the network of a published size without values."""
    library = require_transformers()
    hiera = {"model_type": "sam2_hiera_det_model", **WIDE[size]}
    channels = WIDE[size].get("embed_dim_per_stage", [96, 192, 384, 768])[::-1]
    vision = {"model_type": "sam2_vision_model", "backbone_config": hiera, "backbone_channel_list": channels}
    config = library.Sam2VideoConfig(vision_config=vision, **dict.fromkeys(FLAGS, False))
    with torch.device("meta"):
        return SANSA(SANSASettings(factor=factor), TASK, library.Sam2VideoModel(config))


@pytest.mark.parametrize("stem", [*SMALL, pytest.param("mask_1shot_1024", marks=pytest.mark.parity)])
def test_a_measured_case_of_drawn_images_is_reproduced(stem: str) -> None:
    require_transformers()
    assert deviations_of_sansa(stem) == []


@pytest.mark.parametrize(
    ("size", "factor", "learnable"),
    [
        *(("large", 0.3, 9_898_385), ("large", 0.8, 26_333_537), ("base-plus", 0.3, 3_093_947)),
        *(("base-plus", 0.8, 8_216_491), ("tiny", 0.3, 1_117_380), ("tiny", 0.8, 2_962_404)),
    ],
)
def test_so_many_values_learn_as_published(size: str, factor: float, learnable: int) -> None:
    network = of_size(size, factor).train()
    assert sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad) == learnable
    assert network.stored_state().keys() == {name for name, p in network.named_parameters() if p.requires_grad}


@torch.no_grad()
def test_untrained_adapters_change_nothing() -> None:
    network = small_model("sansa", 1)
    episode = drawn_episode("sansa", 1, 1)
    for adapter in network.adapters.values():
        torch.nn.init.zeros_(adapter.up.weight)
        torch.nn.init.zeros_(adapter.up.bias)
    settings = dataclasses.replace(network.settings, stages=[])
    plain = SANSA(settings, network.task, load_from_hub("Sam2VideoModel", saved("Sam2VideoModel"))).eval()
    assert close(network(episode).logits, plain(episode).logits)
    network.train()
    with torch.enable_grad():
        sum(network(episode).losses.values()).backward()
    learning = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert learning and all(".up." in name for name in learning)


def test_dropout_is_of_the_memory_attention_in_training_alone() -> None:
    network = small_model("sansa", 2, dropout=True, gradient_checkpointing=True)
    episode = drawn_episode("sansa", 2, 1)
    with torch.no_grad():
        assert torch.equal(network(episode).logits, network(episode).logits)
    network.train()
    first, second = (network(episode) for _ in range(2))
    assert not close(first.logits, second.logits)
    assert not any(module.training for part in network.frozen() for module in part.modules())


def test_gradients_are_the_same_with_gradient_checkpointing() -> None:
    episode = drawn_episode("sansa", 1, 2)
    gradients = []
    for is_on in (False, True):
        network = small_model("sansa", 1, gradient_checkpointing=is_on).train()
        sum(network(episode).losses.values()).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.adapters.parameters()]))
    assert close(*gradients)


def test_an_authors_file_fits_with_its_factor(tmp_path: Path) -> None:
    layout = json_of(FOLDER / "layout_large.json")
    published = {f"module.{name}": tensor for name, tensor in filled(layout).items()}
    torch.save({"model": published, "epoch": 4}, tmp_path / "adapters.pth")
    read = Checkpoint.of_others({"model": published}, tmp_path / "adapters.pth")
    translated = SANSA.published.translate(read.weights)
    network = of_size("large")
    assert network.published.matches(read.weights) and translated.keys() == network.stored_state().keys()
    assert all(tensor.shape == translated[name].shape for name, tensor in network.stored_state().items())
    with pytest.raises(UserError) as refusal:
        fill(of_size("tiny"), read)
    assert "adapters.3." in str(refusal.value) and "; check model.name" in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        *(({flag: True}, f"is SAM 2.1 or another video network .{flag}") for flag in sorted(FLAGS)),
        ({"image_size": 72}, "image_size = 72 in its config.json is no multiple of 32"),
    ],
)
def test_other_video_networks_are_refused_in_one_line(changes: dict[str, object], reason: str) -> None:
    library = require_transformers()
    with torch.device("meta"):
        network = library.Sam2VideoModel(library.Sam2VideoConfig(**SAM2 | changes))
    with pytest.raises(ModelMismatch, match=rf"model.weights = somewhere: {reason}"):
        SANSA(SANSASettings(weights=["somewhere"]), TASK, network)


@pytest.mark.train
def test_a_checkpoint_holds_what_learns_and_knows_the_rest_by_its_digest(mini_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sam"
    shutil.copytree(saved("Sam2VideoModel"), folder)
    settings = [f"run.folder={tmp_path}/runs", f"data.root={mini_root}", f"data.cache={tmp_path}/cache"]
    settings += ["run.name=tiny", "run.device=cpu", "data.min_pixels=100", "meta_stage.epoch_length=4"]
    config = config_of("split0", "mini", "sansa", str(folder), overrides=settings)
    assert train_meta(config) == 0
    run = Run(config)
    stored = checkpoint.read(run.folder("meta") / "last.pth")
    assert {name.partition(".")[0] for name in stored.weights} == {"adapters"}
    network = load_weights(run, stored=stored).network
    assert all(torch.equal(tensor, stored.weights[name]) for name, tensor in network.stored_state().items())
    state = load_file(folder / "model.safetensors")
    save_file(state | {"no_memory_embedding": state["no_memory_embedding"] + 1}, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"other weights of the networks in model.weights .*model.weights = .*sam"):
        load_weights(run)


@torch.no_grad()
def test_of_many_supports_the_first_and_the_last_six_are_remembered() -> None:
    network = small_model("sansa", 8)
    episode = drawn_episode("sansa", 8, 1)
    shots = network.encode_supports(episode.support[0], episode.support_label[0])
    keys, _, pointers = network._memories(shots)
    memories = [shot.memory.flatten(2).permute(2, 0, 1) for shot in shots]
    used = torch.cat([memories[number] for number in (0, 2, 3, 4, 5, 6, 7)])
    assert pointers == 8 * 2 and torch.equal(keys[:-pointers], used)
    assert network._memories(shots * 3)[2] == 16 * 2
