"""A segmenter encodes supports once, takes queries in batches, and treats shots as its model was trained."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from util.data.images.read import read_mask
from util.data.mini import CLASS_NAMES
from util.evaluate.calibration import FORMAT, MARGIN_NUMBERS, Calibration
from util.predict import Segmenter
from util.predict.supports import Support, parse_support, read_photo


@pytest.fixture
def supports(mini_root: Path, photos: list[Path]) -> list[Support]:
    """Return the synthetic photos with their masks."""
    masks = mini_root / "SegmentationClassAug"
    return [parse_support(f"{p}:{masks / p.stem}.png").read() for p in photos]


def test_supports_are_encoded_once_and_queries_in_batches(empty_segmenter, supports, photos) -> None:
    segmenter = empty_segmenter()
    passes: list[int] = []
    encoder = segmenter.model.network.encoder
    hook = encoder.register_forward_pre_hook(lambda _, images: passes.append(len(images[0])))
    segmenter.add("cat", supports[:2])
    assert passes == [1, 1]  # Sym-Net of one shot encodes them one at a time
    passes.clear()
    assert len(list(segmenter.many(photos, batch=2))) == len(photos) == 3
    assert sum(passes) == 3  # queries alone, once for both supports
    hook.remove()


def test_a_model_of_one_shot_averages_the_logits_of_its_supports(empty_segmenter, supports) -> None:
    query = torch.rand(2, 3, 33, 33) * 255
    margins = []
    for shots in (supports[:1], supports[1:2], supports[:2]):
        segmenter = empty_segmenter()
        segmenter.add("cat", shots)
        margins.append(segmenter.margins(query))
    assert torch.allclose(margins[2], (margins[0] + margins[1]) / 2, atol=1e-4)


def test_the_presence_of_every_class_is_of_its_own_supports(empty_segmenter, supports, photos) -> None:
    """Sym-Net of one shot: a class with two supports has the mean of their evidence."""

    def presence(classes: dict[str, list[Support]]) -> list[float]:
        segmenter = empty_segmenter()
        segmenter.calibration = Calibration(
            FORMAT, "", "", "", 1.0, 0.0, [0.0] * MARGIN_NUMBERS + [3.0, -2.0, 1.0, 2.0, 1.0, -1.0], 0.1, 0.5
        )
        for name, shots in classes.items():
            segmenter.add(name, shots)
        found = segmenter(photos[2]).presence
        assert found is not None
        return [float(np.log(p / (1 - p))) for p in found]

    (first,), (second,) = presence({"cat": supports[:1]}), presence({"cat": supports[1:2]})
    both = presence({"dog": supports[1:2], "cat": supports[:2]})
    assert both == pytest.approx([second, (first + second) / 2], abs=1e-4) and first != pytest.approx(second, abs=1e-3)


@pytest.mark.parametrize("model", ["ssp", "dcama"])
def test_a_model_of_any_number_of_shots_sees_them_together(empty_segmenter, model: str, supports, photos) -> None:
    segmenter = empty_segmenter(model)
    segmenter.add("cat", supports)
    (known,) = segmenter.classes
    assert [batch.image.shape[1] for batch in known.support_batches] == [3]
    assert segmenter(photos[0]).mask.shape == read_photo(photos[0]).shape[:2]


def test_supports_and_queries_may_be_arrays(baseline: Path, drawn_support: str, photos) -> None:
    photo, mask = drawn_support.partition("=")[2].rsplit(":", 1)
    pair = read_photo(Path(photo)), read_mask(Path(mask)) > 0
    from_files = Segmenter(config=baseline, supports=[drawn_support])
    from_arrays = Segmenter(config=baseline, supports=[pair], name=CLASS_NAMES[0])
    assert [known.name for known in from_arrays.classes] == [CLASS_NAMES[0]]
    image = read_photo(photos[1])
    assert np.array_equal(from_files(photos[1]).probability, from_arrays(image).probability)


def test_four_threads_share_a_segmenter(photos) -> None:
    """Encoders of timm keep what the pass under way asks of them."""
    segmenter = Segmenter(None, [f"{photos[0]}:box=10,10,50,50"])
    expected = [segmenter(photo).probability for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: segmenter(photos[n % 3]).probability, range(12)))
    assert all(np.array_equal(x, expected[n % 3]) for n, x in enumerate(found))
