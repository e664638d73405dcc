"""CVAT's masks with a label map: colours or numbers, for predict.py and for a data set of one's own."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotations.masks import names_in, read_names
from datasets.custom_masks import from_masks
from datasets.custom_plan import CustomOptions
from datasets.make import run_jobs
from photos.examples import parse_example
from tests.annotations.drawn import AREAS, CAT, DOG, HEIGHT, WIDTH, areas, photo, refusal, region
from util.files.errors import UserError
from util.files.mask_images import read_mask

HEAD = "# label:color_rgb:parts:actions\n"
CAT_COLOUR, DOG_COLOUR = (48, 112, 32), (176, 112, 32)
ENTRIES = ["background:0,0,0::", "cat:48,112,32::", "dog:176,112,32::"]
VALUES = region(CAT, DOG)
COLOURED = np.array([(0, 0, 0), CAT_COLOUR, DOG_COLOUR], np.uint8)[VALUES]


def with_palette(values: np.ndarray, *colours: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(values)
    image.putpalette([part for colour in colours for part in colour])
    return image


MASKS = {
    "colours": Image.fromarray(COLOURED),
    "opaque colours": Image.fromarray(COLOURED).convert("RGBA"),
    "palette of the colours": with_palette((VALUES + 1) % 3, DOG_COLOUR, (0, 0, 0), CAT_COLOUR),
    "numbers": Image.fromarray(VALUES),
    "numbers with another palette": with_palette(VALUES, (0, 0, 0), (128, 0, 0), (0, 128, 0)),
}
LABEL_MAPS = {
    "first": ENTRIES,
    "last": [*ENTRIES[1:], ENTRIES[0]],
    "unnamed": ENTRIES[1:],
    "short": ["cat:48,112,32", "dog: 176, 112, 32"],
}


def export(folder: Path, mask: Image.Image, entries: list[str]) -> Path:
    """Write a folder as CVAT exports it, with two photos."""
    for number in range(2):
        photo(folder / f"JPEGImages/p{number}.jpg")
        for kind in ("SegmentationClass", "SegmentationObject"):
            (folder / kind).mkdir(exist_ok=True)
            mask.save(folder / kind / f"p{number}.png")
    (folder / "labelmap.txt").write_text(HEAD + "\n".join(entries) + "\n")
    return folder


def custom(
    folder: Path, masks: Path, classes: Path | None = None, photos: str = "JPEGImages"
) -> tuple[list[str], np.ndarray]:
    """Return classes and the first mask of the data set that prepare.py makes."""
    plan = from_masks(CustomOptions(images=folder / photos, masks=masks, classes=classes))
    run_jobs(plan, folder / "out", skip_bad=False)
    return list(plan.classes), read_mask(folder / "out/masks/p0.png")


MAPS = [*product(MASKS, ["first"]), *product(("colours", "numbers"), ("last", "unnamed", "short"))]


@pytest.fixture(params=MAPS, ids="-".join)
def exported(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a folder as CVAT exports it, with masks and a label map of each form."""
    form, order = request.param
    return export(tmp_path, MASKS[form], LABEL_MAPS[order])


def test_a_label_map_names_colours_and_numbers(exported: Path) -> None:
    both = {name: 2 * area for name, area in AREAS.items()}
    assert areas(exported) == both
    assert areas(exported, exported / "JPEGImages") == both


@pytest.mark.parametrize(
    ("masks", "classes", "photos"), [("", None, ""), ("SegmentationClass", "labelmap.txt", "JPEGImages")]
)
def test_a_label_map_gives_the_classes_of_a_data_set(
    exported: Path, masks: str, classes: str | None, photos: str
) -> None:
    names, mask = custom(exported, exported / masks, exported / classes if classes else None, photos)
    assert names == ["cat", "dog"]
    np.testing.assert_array_equal(mask, VALUES)


def test_unknown_classes_and_borders_of_a_label_map_are_unknown(tmp_path: Path) -> None:
    coloured = COLOURED.copy()
    coloured[:3] = (224, 224, 192)  # VOC's borders
    coloured[-3:] = (9, 9, 9)  # a class named void
    folder = export(tmp_path, Image.fromarray(coloured), [*ENTRIES, "void:9,9,9::"])
    names, mask = custom(folder, folder / "SegmentationClass")
    assert names == ["cat", "dog"]
    assert (mask == 255).sum() == 6 * WIDTH
    np.testing.assert_array_equal(mask[3:-3], VALUES[3:-3])


def test_colours_without_a_class_and_classes_of_one_colour_are_named(tmp_path: Path) -> None:
    folder = export(tmp_path, MASKS["colours"], ENTRIES[:2])
    assert "p0.png: 1 colours of this mask have no class, such as (176, 112, 32)" in refusal(folder)
    label_map = folder / "labelmap.txt"
    label_map.write_text(HEAD + "cat:48,112,32::\ndog:48,112,32::\n")
    assert "labelmap.txt: 'dog' has the colour (48, 112, 32) of another class" in refusal(folder)
    label_map.write_text("cat:0,0,0::\n")
    assert "'cat' has the colour (0, 0, 0)" in refusal(folder)


def test_names_with_colons_may_be_a_plain_list(tmp_path: Path) -> None:
    (tmp_path / "labelmap.txt").write_text("cat:domestic\ndog\n")
    assert read_names(tmp_path / "labelmap.txt").names == {1: "cat:domestic", 2: "dog"}


def unnamed(folder: Path, pixels: np.ndarray) -> Path:
    """Write a folder as CVAT exports it, without the label map."""
    export(folder, Image.fromarray(pixels), [])
    (folder / "labelmap.txt").unlink()
    return folder


SEVERAL = {
    "colours": COLOURED,
    "shades": np.array([(0, 0, 0), (128, 0, 0), (64, 0, 0)], np.uint8)[VALUES],
    "layers": np.dstack([COLOURED, 255 * (VALUES > 0)]).astype(np.uint8),
    "numbers": VALUES,
    "levels": 100 * VALUES,
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_colours_or_numbers_without_names_are_refused(tmp_path: Path, name: str) -> None:
    line = refusal(unnamed(tmp_path, SEVERAL[name]))
    assert "hold several classes, [" in line
    assert "name the classes in" in line


def test_masks_of_different_colours_without_names_are_refused(tmp_path: Path) -> None:
    folder = unnamed(tmp_path, COLOURED)
    for number, value in enumerate((1, 2)):
        pixels = COLOURED * (value == VALUES)[..., None]
        Image.fromarray(pixels).save(folder / f"SegmentationClass/p{number}.png")
    assert "p1.png: this mask and those before hold several classes" in refusal(folder)


@pytest.fixture
def mask_of_class(tmp_path: Path) -> Path:
    """Return a mask of two colours in a folder of one class, beside photos that CVAT has exported."""
    unnamed(tmp_path, COLOURED)
    mask = tmp_path / "classes/cat/p0.png"
    mask.parent.mkdir(parents=True)
    MASKS["colours"].save(mask)
    return mask


def test_a_mask_of_one_class_has_one_colour(tmp_path: Path, mask_of_class: Path) -> None:
    with pytest.raises(UserError, match=r"has the colours \(48, 112, 32\), .*; a mask of one class has one"):
        custom(tmp_path, mask_of_class.parent.parent)


def test_one_mask_of_a_support_is_one_object_in_any_colours(tmp_path: Path, mask_of_class: Path) -> None:
    label = parse_example(f"{tmp_path / 'JPEGImages/p0.jpg'}:{mask_of_class}").read().label
    assert label.shape == (HEIGHT, WIDTH)
    assert int(label.sum()) == sum(AREAS.values())


def test_a_name_may_begin_with_the_mark_of_comments(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("#classes\n# of pets\ncat\n#x\n# a comment\ndog\n")
    assert read_names(tmp_path / "names.txt").names == {1: "cat", 2: "#x", 3: "dog"}


def test_names_are_words_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\nred dog\n")
    for given in (Path("cat, red dog"), tmp_path / "names.txt"):
        assert names_in(given).classes == {1: "cat", 2: "red dog"}
    assert names_in(Path("cat")).classes == {1: "cat"}
    with pytest.raises(UserError, match="cannot read"):
        names_in(Path("other.txt"))
