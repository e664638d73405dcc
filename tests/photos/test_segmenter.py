"""A segmenter encodes supports once, takes queries in batches, and treats shots as its model was trained."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from photos import Segmenter
from photos.calibration import FORMAT, Calibration
from photos.examples import BOXED, LoadedExample
from photos.prediction import Decision
from photos.read_photos import read_photo
from tests.helpers import spawned
from tests.helpers.close import close, same_pixels
from util.data.mini import CLASS_NAMES
from util.engine import OUTLOOK
from util.files.errors import UserError
from util.files.mask_images import read_mask


@pytest.fixture
def supports(mini_root: Path, photos: list[Path]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the synthetic photos with their masks."""
    masks = mini_root / "SegmentationClassAug"
    return [(read_photo(photo), read_mask(masks / f"{photo.stem}.png") > 0) for photo in photos]


def test_supports_are_encoded_once_and_queries_in_batches(empty_segmenter, supports, photos, monkeypatch) -> None:
    segmenter = empty_segmenter()
    segmenter.engine = replace(segmenter.engine)  # which has an empty store
    passes = []
    encoder = segmenter.engine.network.encoder
    normalise = encoder.normalise  # every image passes it
    monkeypatch.setattr(encoder, "normalise", lambda images: passes.append(len(images)) or normalise(images))
    segmenter.add("cat", supports[:2])
    assert passes == [1, 1]  # Sym-Net of one shot encodes them one at a time
    passes.clear()
    assert len(list(segmenter.many(photos, batch=2))) == len(photos) == 3
    assert sum(passes) == 3  # queries alone, once for both supports
    passes.clear()
    segmenter.without_classes().add("cat", supports)
    assert passes == [1]  # the new support alone


def test_a_model_of_one_shot_averages_what_its_supports_say(empty_segmenter, supports) -> None:
    """Logits and presence features; every class has those of its own supports."""
    first, second = supports[:1], supports[1:2]
    query = torch.rand(2, 3, 33, 33) * 255
    margins, presence_features = [], []
    for classes in ([first], [second], [second, first + second]):
        segmenter = empty_segmenter()
        for number, shots in enumerate(classes):
            segmenter.add(f"class {number}", shots)
        scores = segmenter.scores(query)
        margins.append(scores.margins)
        presence_features.append(scores.presence_features)
    for of_first, of_second, of_both in (margins, presence_features):
        assert torch.allclose(of_both, torch.cat([of_second, (of_first + of_second) / 2], 1), atol=1e-4)
        assert not torch.allclose(of_first, of_second, atol=1e-3)


def test_the_weights_say_how_many_shots_the_model_reads_together(
    empty_segmenter, make_checkpoint, supports, photos
) -> None:
    segmenter = empty_segmenter("ssp")
    segmenter.add("cat", supports)
    assert [batch.image.shape[1] for batch in segmenter.classes[0].support_batches] == [3]
    assert segmenter(photos[0]).mask.shape == read_photo(photos[0]).shape[:2]
    of_five = Segmenter(checkpoint=make_checkpoint("", "data.shot=5"), device="cpu")
    with pytest.raises(UserError, match=r"2 example.* trained with 5 shots"):
        of_five.add("cat", supports[:2])
    of_five.add("cat", [*supports, *supports[:2]])
    with pytest.raises(UserError, match="added before"):
        of_five.add("cat", [*supports, *supports[:2]])


@pytest.mark.parametrize("kind", ["files", "bytes", "array", "pillow", "tensor", "floats"])
def test_supports_and_queries_may_be_in_memory(kind: str, baseline: Path, drawn_support: str, photos) -> None:
    path, mask_path = drawn_support.partition("=")[2].rsplit(":", 1)
    forms = {
        "files": str,
        "bytes": lambda path: Path(path).read_bytes(),
        "array": read_photo,
        "pillow": Image.open,
        "tensor": lambda photo: torch.from_numpy(read_photo(photo)).permute(2, 0, 1),
        "floats": lambda photo: torch.from_numpy(read_photo(photo)).permute(2, 0, 1) / 255,
    }
    inside = read_mask(Path(mask_path)) > 0
    pixels = (255 * inside).astype(np.uint8)  # 255 is the object where nothing is 1
    content = Path(mask_path).read_bytes()
    masks = {"bytes": content, "array": inside, "pillow": Image.fromarray(pixels), "tensor": torch.tensor(pixels)}
    in_form = forms[kind]
    pair = (in_form(path), masks.get(kind, mask_path))
    expected = Segmenter(config=baseline, supports=[drawn_support, f"dog={path}:{mask_path}"])
    prediction = Segmenter({CLASS_NAMES[0]: [pair], "dog": [pair]}, config=baseline)(in_form(photos[1]))
    assert prediction.names == [CLASS_NAMES[0], "dog"]
    assert close(prediction.probability, expected(photos[1]).probability)


def test_supports_of_a_class_are_a_list_of_pairs(baseline: Path, photos: list[Path]) -> None:
    image = read_photo(photos[0])
    segmenter = Segmenter([(image, "box=9,9,50,50")], config=baseline)
    assert segmenter.classes[0].name == "object"
    assert next(segmenter.many(photos[0].parent)).photo == photos[0]
    wrong_photos = {"uint16": image.astype(np.uint16), "uint8": image[..., 0], "not NoneType": None, "not int": 7}
    for end, wrong in wrong_photos.items():
        with pytest.raises(UserError, match=f"{end}$"):
            segmenter(wrong)
    not_lists = [(image, image[..., 0] > 9), [], [image], [(image, image[:9, :9, 0] > 9)], [(image, None)]]
    for wrong in (*not_lists, "cup.jpg:box=9,9,50,50", ("cup.jpg", "box=9,9,50,50"), None):
        with pytest.raises(UserError, match="" if wrong is not None else r"not 'best\.pth'; .*checkpoint="):
            Segmenter({"cup": wrong} if wrong is not None else "best.pth", config=baseline)


def test_presence_does_not_depend_on_refined_edges(baseline: Path, photos) -> None:
    segmenter = Segmenter([(photos[0], "box=9,9,50,50")], config=baseline)
    segmenter.calibration = Calibration(FORMAT, "", "", "", 1.0, 0.0, [1.0] * 6, 0.0, 0.5)
    refined = segmenter(photos[1])
    segmenter.decision = Decision(refine=False)
    plain = segmenter(photos[1])
    assert close(refined.presence, plain.presence) and not close(refined.probability, plain.probability)


def test_unread_files_join_a_dictionary(baseline: Path, photos: list[Path], tmp_path: Path) -> None:
    segmenter = Segmenter([(photos[0], "box=9,9,50,50")], config=baseline)
    document = tmp_path / "a.pdf"
    document.write_bytes(b"%PDF-1.4")
    unread = {}
    assert [found.photo for found in segmenter.many([document, photos[0]], unread=unread)] == [photos[0]]
    line = r"a\.pdf: is no photo \(JPEG, .*\); convert it to one of these, or leave it out$"
    assert list(unread) == [document] and re.search(line, unread[document])


def test_the_shipped_weights_say_once_what_to_expect_of_other_classes(photos: list[Path], baseline: Path) -> None:
    pair = photos[0], "box=10,10,50,50"
    trained = Segmenter({"Dining table": [pair], "tv_monitor": [pair], "airplane": [pair]}, side=97, device="cpu")
    assert OUTLOOK not in trained.notes
    for name in ("wheel", "hub cap"):
        trained.add(name, [pair])
    assert trained.notes.count(OUTLOOK) == 1
    assert OUTLOOK in Segmenter([pair], side=97, device="cpu").notes  # without a name it may be any
    assert OUTLOOK not in Segmenter({"wheel": [pair]}, config=baseline).notes


def test_four_threads_share_a_segmenter_while_another_adds_a_class(photos) -> None:
    """Encoders of timm keep what the pass under way asks of them."""
    pair = photos[0], "box=10,10,50,50"
    segmenter = Segmenter({"cup": [pair]}, side=129)
    of_one = [segmenter(photo).probability for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        pending = [pool.submit(lambda n=n: segmenter(photos[n % 3]).probability) for n in range(8)]
        segmenter.add("dish", [pair])
    of_two = [segmenter(photo).probability for photo in photos]
    for n, future in enumerate(pending):
        probability = future.result()
        assert close(probability, (of_one if len(probability) == 1 else of_two)[n % 3])


FORK = """
import os, sys, time, torch
from photos import Segmenter
torch.set_num_threads(2)
photo = sys.argv[1]
segmenter = Segmenter([photo + ":points=30,30"], config="split0 mini --model multiprototype --net lite0", device="cpu")
segmenter(photo)
child = os.fork()
if not child:
    segmenter(photo)
    os._exit(41)
deadline = time.monotonic() + 15
while time.monotonic() < deadline:
    ended, status = os.waitpid(child, os.WNOHANG)
    if ended:
        sys.exit(os.waitstatus_to_exitcode(status))
    time.sleep(0.1)
os.kill(child, 9)
"""


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_segmenter_answers_in_a_forked_process(photos: list[Path], tmp_path: Path) -> None:
    script = tmp_path / "fork.py"
    script.write_text(FORK)
    spawned.run(script, photos[0], check=41)


def test_the_object_is_searched_in_a_box(photos: list[Path], baseline: Path) -> None:
    segmenter = Segmenter(config=baseline)
    image = read_photo(photos[0])
    label = np.zeros(image.shape[:2], np.uint8)
    label[5:45, 5:45] = BOXED
    (searched,) = segmenter.boxes_to_masks("cup", [LoadedExample(image, label, "a")])
    full = LoadedExample(image, np.where(label == BOXED, 1, 0).astype(np.uint8), "a")
    by_full_box = Segmenter([(image, full.label)], config=baseline, decision=Decision(min_presence=None))
    expected = (by_full_box(image).mask > 0) & (label == BOXED)
    assert 0.1 < expected.sum() / 1600 < 1
    assert same_pixels(searched.label == 1, expected) and searched.label.max() == 1
    assert segmenter.boxes_to_masks("cup", [full])[0].label.sum() == 1600  # a mask is as it is


def test_a_name_gives_its_vector_and_the_note_its_source(empty_segmenter) -> None:
    method = empty_segmenter().engine
    table = method.run.vectors
    mean, mean_note = table[1:].mean(0), "so the mean text vector of mini's classes is used"
    cases = {
        CLASS_NAMES[2]: (table[3], "uses the text vector of mini's class"),
        CLASS_NAMES[2].upper(): (table[3], "uses the text vector of mini's class"),
        "horse": (mean, f"horse: not a class of mini, {mean_note}"),
        None: (mean, f"the examples have no class name, {mean_note}; write CLASS=PHOTO:ANNOTATION"),
    }
    for name, (vector, note) in cases.items():
        text = method.read_name(name)
        assert np.allclose(text.vector, vector, atol=1e-6) and note in text.note, name
        assert text.class_id == (3 if vector is not mean else 0)


def test_the_text_of_a_class_is_in_its_episodes_and_notes(empty_segmenter, drawn_support: str) -> None:
    segmenter = empty_segmenter()
    segmenter.add(CLASS_NAMES[0], [drawn_support])
    (encoded,) = segmenter.classes
    assert segmenter.notes == [encoded.text.note] and encoded.text.class_id == 1
    seen = []
    hook = segmenter.engine.network.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs))
    segmenter.scores(torch.zeros(2, 3, 33, 33))
    hook.remove()
    (episode,) = seen
    assert np.array_equal(episode.text, 2 * [segmenter.engine.run.vectors[1]])
