"""A segmenter encodes supports once, takes queries in batches, and treats shots as its model was trained."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from util.data.images.read import read_mask
from util.data.mini import CLASS_NAMES
from util.errors import UserError
from util.predict import Segmenter, drop_doubtful
from util.predict.encoded_class import text_of
from util.predict.load_model import OUTLOOK
from util.predict.photos import read_photo
from util.predict.prediction import Decision
from util.predict.supports import BOXED, Support, parse_support


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


def test_a_model_of_one_shot_averages_what_its_supports_say(empty_segmenter, supports) -> None:
    """Logits and presence features; every class has those of its own supports."""
    query = torch.rand(2, 3, 33, 33) * 255
    margins, presence_features = [], []
    for classes in ([supports[:1]], [supports[1:2]], [supports[1:2], supports[:2]]):
        segmenter = empty_segmenter()
        for number, shots in enumerate(classes):
            segmenter.add(f"class {number}", shots)
        of_query = segmenter.scores(query)
        margins.append(of_query[0]), presence_features.append(of_query[1])
    for first, second, both in (margins, presence_features):
        assert torch.allclose(both, torch.cat([second, (first + second) / 2], 1), atol=1e-4)
        assert not torch.allclose(first, second, atol=1e-3)


def test_the_weights_say_how_many_shots_are_seen_together(empty_segmenter, make_checkpoint, supports, photos) -> None:
    segmenter = empty_segmenter("ssp")
    segmenter.add("cat", supports)
    assert [batch.image.shape[1] for batch in segmenter.classes[0].support_batches] == [3]
    assert segmenter(photos[0]).mask.shape == read_photo(photos[0]).shape[:2]
    of_five = Segmenter(make_checkpoint("", "data.shot=5"), device="cpu")
    with pytest.raises(UserError, match=r"2 support.* trained with 5 shots"):
        of_five.add("cat", supports[:2])
    of_five.add("cat", [*supports, *supports[:2]])
    with pytest.raises(UserError, match="added before"):
        of_five.add("cat", [*supports, *supports[:2]])


@pytest.mark.parametrize("kind", ["files", "array", "pillow", "tensor", "floats"])
def test_supports_and_queries_may_be_in_memory(kind: str, baseline: Path, drawn_support: str, photos) -> None:
    photo, mask = drawn_support.partition("=")[2].rsplit(":", 1)
    of_kind: dict[str, Callable] = {
        "files": str,
        "array": read_photo,
        "pillow": Image.open,
        "tensor": lambda path: torch.from_numpy(read_photo(path)).permute(2, 0, 1),
        "floats": lambda path: torch.from_numpy(read_photo(path)).permute(2, 0, 1) / 255,
    }
    inside = (255 * (read_mask(Path(mask)) > 0)).astype(np.uint8)  # 255 is the object where nothing is 1
    masks = {"files": mask, "array": inside == 255, "pillow": Image.fromarray(inside), "tensor": torch.tensor(inside)}
    take, pair = of_kind[kind], (of_kind[kind](photo), masks.get(kind, mask))
    expected = Segmenter(config=baseline, supports=[drawn_support, f"dog={drawn_support.partition('=')[2]}"])
    segmenter = Segmenter(None, {CLASS_NAMES[0]: [pair], "dog": [pair]}, config=baseline)
    found = segmenter(take(photos[1]))
    assert found.names == [CLASS_NAMES[0], "dog"]
    assert np.array_equal(found.probability, expected(photos[1]).probability)


def test_supports_of_a_class_are_a_list_of_pairs(baseline: Path, photos) -> None:
    image = read_photo(photos[0])
    segmenter = Segmenter([(image, "box=9,9,50,50")], config=baseline)
    assert segmenter.classes[0].name == "object" and "object (1)" in repr(segmenter)
    assert next(segmenter.many(photos[0].parent)).photo == photos[0] and "object: " in repr(segmenter(image))
    for wrong, fix in ((image.astype(np.uint16), "// 256"), (image[..., 0], "dstack")):
        with pytest.raises(UserError, match=fix):
            segmenter(wrong)
    classes = {marks: [(photos[0], marks)] for marks in ("box=9,9,13,13", "box=9,9,30,30", "points=20,20")}
    notes = Segmenter(None, classes, config=baseline).notes  # of small objects
    assert [note.partition(":")[0] for note in notes] == ["box=9,9,13,13"]
    for wrong in ((image, image[..., 0] > 9), [], [image], [(image, image[:9, :9, 0] > 9)], [(image, None)]):
        with pytest.raises(UserError):
            Segmenter(None, {"cup": wrong}, config=baseline)


def test_the_shipped_weights_say_once_what_to_expect_of_other_classes(photos: list[Path], baseline: Path) -> None:
    pair = photos[0], "box=10,10,50,50"
    trained = Segmenter({"Dining table": [pair], "tv_monitor": [pair], "airplane": [pair]}, side=97, device="cpu")
    assert OUTLOOK not in trained.notes
    for name in ("wheel", "hub cap"):
        trained.add(name, [pair])
    assert trained.notes.count(OUTLOOK) == 1
    assert OUTLOOK in Segmenter([pair], side=97, device="cpu").notes  # without a name it may be any
    assert OUTLOOK not in Segmenter({"wheel": [pair]}, config=baseline).notes
    material = photos[0], np.ones(read_photo(photos[0]).shape[:2], bool)
    assert OUTLOOK not in drop_doubtful(Segmenter({"brick": [material]}, side=97, device="cpu")).notes  # another method


def test_four_threads_share_a_segmenter_while_another_adds_a_class(photos) -> None:
    """Encoders of timm keep what the pass under way asks of them."""
    pair = photos[0], "box=10,10,50,50"
    segmenter = Segmenter({"cup": [pair]}, side=129)
    expected = [[segmenter(photo).probability for photo in photos]]
    with ThreadPoolExecutor(4) as pool:
        pending = [pool.submit(lambda n=n: segmenter(photos[n % 3]).probability) for n in range(8)]
        segmenter.add("dish", [pair])
    expected.append([segmenter(photo).probability for photo in photos])
    found = [one.result() for one in pending]
    assert all(np.array_equal(x, expected[len(x) - 1][n % 3]) for n, x in enumerate(found))


def test_the_object_is_looked_for_in_a_box(photos: list[Path], baseline: Path) -> None:
    segmenter = Segmenter(config=baseline)
    image = read_photo(photos[0])
    label = np.zeros(image.shape[:2], np.uint8)
    label[5:45, 5:45] = BOXED
    (looked,) = segmenter.boxes_to_masks("cup", [Support(image, label, "a")])
    full = Support(image, np.where(label == BOXED, 1, 0).astype(np.uint8), "a")
    given = Segmenter([full], config=baseline, decision=Decision(min_score=None))
    found = (given(image).mask > 0) & (label == BOXED)
    assert 0.1 < found.sum() / 1600 < 1 and np.array_equal(looked.label == 1, found) and looked.label.max() == 1
    assert segmenter.boxes_to_masks("cup", [full])[0].label.sum() == 1600  # a mask is as it is


def test_a_name_gives_its_vector_and_the_note_its_source(empty_segmenter, drawn_support: str, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    rows = {"background": np.eye(300)[0], "cat": np.eye(300)[1], "dog": 2 * np.eye(300)[2]}
    words.write_text("".join(f"{w} {' '.join(map(str, row))}\n" for w, row in rows.items()))
    segmenter = empty_segmenter()
    segmenter.add(CLASS_NAMES[0], [parse_support(drawn_support).read()])
    (known,), context = segmenter.classes, segmenter.model.run.context
    table = context.vectors
    episode = known.episode(torch.zeros(2, 3, 33, 33), known.support_batches[0], False)
    assert segmenter.notes == [known.note] and known.class_id == 1 and np.array_equal(episode.text, 2 * [table[1]])
    mean = "so the mean text vector of mini's classes is used"
    cases = {
        CLASS_NAMES[2]: (table[3], "uses the text vector of mini's class"),
        CLASS_NAMES[2].upper(): (table[3], "uses the text vector of mini's class"),
        "dog": (np.eye(300)[2], f"dog: uses the text vector in {words}"),
        "horse": (table[1:].mean(0), f"horse: not a class of mini and not a word of {words}, {mean}"),
        None: (table[1:].mean(0), f"the supports have no class name, {mean}; give --name CLASS"),
    }
    for name, (vector, note) in cases.items():
        _, found, line = text_of(name, context, words)
        assert np.allclose(found, vector, atol=1e-6) and note in line, name
    assert text_of("horse", context, None)[2].endswith("give the name of a class, or --vectors FILE")
    assert [text_of(name, context, None)[0] for name in (CLASS_NAMES[2], "horse", None)] == [3, 0, 0]
