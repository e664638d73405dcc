"""``--keep-base``: base and new classes in one mask, by a base stage's checkpoint or any with a base classifier."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.bcm import regression
from photos import Segmenter, for_materials
from photos.prediction import Decision
from tests.helpers.close import same_pixels
from tests.photos.conftest import HEIGHT, WIDTH
from util.evaluate.calibration import FORMAT, MARGIN_NUMBERS, Calibration
from util.files.images import read_mask
from util.run import checkpoint

RULE = Decision(refine=False)  # random masks are specks
NEW_CLASS = "scribble=9,9;50,9;50,30;9,30"


@pytest.fixture
def photo(example_texts: dict[str, str]) -> str:
    """Return the photo on which the new class is annotated."""
    return example_texts["box"].rpartition(":")[0]


def _with_and_without_base(checkpoint_file: Path, photo: str) -> tuple[Segmenter, Segmenter]:
    """Return segmenters of a new class, with the base classes and without, whose random weights find something."""
    support = f"cat={photo}:{NEW_CLASS}"
    beside, alone = (Segmenter(checkpoint_file, [support], keep_base=kept, decision=RULE) for kept in (True, False))
    share = alone(photo).probability[0]
    median = float(np.median(np.log(share / (1 - share))))
    shift = torch.tensor([median, 0.0])[:, None, None]
    for segmenter in (beside, alone):
        segmenter.model.network.register_forward_hook(
            lambda _, __, output: replace(output, logits=output.logits + shift)
        )
    return beside, alone


@pytest.mark.parametrize("model", ["", "pocket"], ids=["symnet", "pocket"])
def test_base_and_new_classes_share_a_mask(make_checkpoint, model: str, photo: str) -> None:
    """The new class is where the network finds it alone, but in base classes' pixels only by its presence score."""
    segmenter, alone = _with_and_without_base(make_checkpoint(model), photo)
    base, new = segmenter.without_classes()(photo), alone(photo).mask == 1
    assert new.any()
    assert (base.mask > 0).any()
    both = segmenter(photo)
    assert same_pixels(both.mask, np.where(new & (base.mask == 0), 7, base.mask))
    assert (len(base.probability), len(both.probability), both.presence) == (6, 7, None)
    numbers = [0.0] * (MARGIN_NUMBERS + 6)
    low = Calibration(FORMAT, "", "", "", scale=2.0, offset=1.0, weights=numbers, bias=-9.0, threshold=0.5)
    segmenter.calibration = low
    assert same_pixels(segmenter.without_classes()(photo).mask, base.mask)  # there is no score without a new class
    hidden = segmenter(photo)
    assert same_pixels(hidden.mask, base.mask)
    assert hidden.probability[:6].max() > 0.1
    assert hidden.presence[:6] == [None] * 6  # scores hide new classes alone
    assert hidden.presence[6] < hidden.min_presence
    segmenter.calibration = replace(low, bias=99.0)
    assert same_pixels(segmenter(photo).mask, np.where(new, 7, base.mask))


@pytest.mark.parametrize("model", ["", "pocket"], ids=["symnet", "pocket"])
def test_the_command_names_base_classes_before_the_new_one(
    predict, make_checkpoint, model: str, photo: str, tmp_path: Path
) -> None:
    weights = make_checkpoint(model)
    words = ("--checkpoint", weights, "--keep-base", "--query", photo, "--out", tmp_path / "out")
    assert predict(*words, "--support", f"cat={photo}:{NEW_CLASS}").code == 0
    names = [row["name"] for row in _record(tmp_path)["classes"]]
    base = [known.name for known in Segmenter(weights, keep_base=True, device="cpu").classes]
    assert len(base) == 6
    assert names == [*base, "cat"]
    error = predict(*words, "--support", f"{names[0].upper()}={photo}:box=2,2,9,9", "--overwrite").error
    assert "is a base class" in error


def _record(folder: Path) -> dict:
    return json.loads((folder / "out" / "annotated.json").read_text())


@pytest.fixture
def base_stage(make_checkpoint, tmp_path: Path) -> Path:
    """Return the checkpoint of a base stage."""
    content = checkpoint.read(make_checkpoint(""))
    parts = ("encoder.", "base_learner.")
    weights = {name: tensor for name, tensor in content["weights"].items() if name.startswith(parts)}
    path = tmp_path / "base.pth"
    checkpoint.save(path, {**content, "stage": "base", "weights": weights})
    return path


def test_a_base_stage_is_enough(predict, base_stage: Path, photo: str, tmp_path: Path, monkeypatch) -> None:
    """BCM fits the new classes, which need cells enough."""
    monkeypatch.setattr(regression, "PENALTIES", [1.0])
    words = ("--checkpoint", base_stage, "--query", photo, "--out", tmp_path / "out")
    large, small = (("--support", f"cat={photo}:box={box}") for box in ("2,2,56,40", "2,2,9,9"))
    assert "--keep-base" in predict(*words, *large).error
    assert "cat: " in predict(*words, *small, "--keep-base").error
    assert predict(*words, *large, "--keep-base").code == 0
    assert (_record(tmp_path)["model"], len(_record(tmp_path)["classes"])) == ("BCM", 7)
    assert (read_mask(tmp_path / "out" / "annotated_mask.png") == 7).any()


def test_a_fit_reads_the_shots_of_the_supports(base_stage: Path, photo: str, monkeypatch) -> None:
    """No support passes the encoder again."""
    monkeypatch.setattr(regression, "PENALTIES", [1.0])
    segmenter = Segmenter(base_stage, [f"cat={photo}:box=2,2,56,40"], keep_base=True, device="cpu")
    encoded: list[int] = []
    segmenter.model.network.encoder.register_forward_pre_hook(lambda _, images: encoded.append(len(images[0])))
    segmenter(photo)
    assert encoded == [1]


def test_a_method_over_base_stages_is_fitted_to_every_photo(
    predict, base_stage: Path, photo: str, tmp_path: Path
) -> None:
    content = checkpoint.read(base_stage)
    config = content["config"]
    diam = {
        **config,
        "model": {"name": "diam", "encoder": config["model"]["encoder"]},
        "data": {**config["data"], "text": "none"},
        "test": {**config["test"], "protocol": "gfss"},
    }
    checkpoint.save(base_stage, {**content, "stage": "meta", "config": diam})
    words = ("--checkpoint", base_stage, "--query", photo, "--out", tmp_path / "out", "--keep-base")
    assert predict(*words, "--support", f"cat={photo}:box=2,2,56,40").code == 0
    assert _record(tmp_path)["model"] == "DIaM"


def test_a_material_is_found_beside_base_classes(make_checkpoint, photo: str) -> None:
    floor = [f"floor={photo}:box=0,{HEIGHT // 2},{WIDTH - 1},{HEIGHT - 1}"]
    plain, beside = (Segmenter(make_checkpoint("pocket"), floor, keep_base=kept) for kept in (False, True))
    new = for_materials(plain)(photo).mask == 1
    both = for_materials(beside)
    assert new.any() and both.adaptation == {"method": "linear probe"}
    base = beside.without_classes()(photo).mask
    assert same_pixels(both(photo).mask, np.where(new & (base == 0), 7, base))
