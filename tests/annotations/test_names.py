"""Files of names say what the values and colours of masks are, for predict.py and for a data set of one's own."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotations.mask_names import names_in, read_names
from photos.examples import parse_example
from tests.annotations.drawn import AREAS, CAT, DOG, WIDTH, areas, custom, photo, refusal, region
from util.files.errors import UserError

CAT_AND_DOG = [
    "cat\ndog",
    "unlabeled\ncat\ndog",
    "BG\ncat\ndog",
    "None\ncat\ndog",
    "No object\ncat\ndog",
    "<background>\ncat\ndog",
    "0\ncat\ndog",
    "#classes\n# of the farm\n\ncat\ndog\n",
    "# of the farm\nunlabelled\ncat\n# a comment\ndog",
    "0: unlabeled\n1: cat\n2: dog",
    "1: cat\n2: dog",
    "Pixel Value, Class\n0, background\n1, cat\n2, dog",
    "0\tnone\n1\tcat\n2\tdog\n255\tvoid",
    "0. none\n1. cat\n2. dog",
    "2: dog\n0: background\n1: cat",
    "names:\n  0: background\n  1: cat\n  2: dog",
    "background 0 0 0\ncat 255 0 0\ndog 0 128 0",
    "cat,255,0,0\ndog,0,128,0",
    "name,r,g,b\ncat,255,0,0\ndog,0,128,0",
    "cat: (255, 0, 0)\ndog: [0, 128, 0]",
]
NAMES = {
    **{text: {1: "cat", 2: "dog"} for text in CAT_AND_DOG},
    "#classes\n# of pets\ncat\n#x\n# a comment\ndog\n": {1: "cat", 2: "#x", 3: "dog"},
    "2 door\n4 door": {1: "2 door", 2: "4 door"},
    "0 background\n1 cat\n2 dog": {1: "1 cat", 2: "2 dog"},
    "grade 0\ngrade 1": {1: "grade 0", 2: "grade 1"},
    "cat: domestic\ndog": {1: "cat: domestic", 2: "dog"},
    "7: road\n8: kerb": {7: "road", 8: "kerb"},
}


@pytest.mark.parametrize("text", NAMES)
def test_names_are_of_values_however_lines_state_them(tmp_path: Path, text: str) -> None:
    (tmp_path / "names.txt").write_text(text)
    assert read_names(tmp_path / "names.txt").names == NAMES[text]


REFUSED_NAMES = {
    "0: cat\n1: dog": "'cat' has the value 0; 0 is the background",
    "1: background\n2: cat": "'background' has the value 1",
    "cat\ndog\nbackground": "'background' has the value 3",
    "1: cat\n1: dog": "'dog' has the value 1, as 'cat'; 0 is the background",
    "0: none\n255: cat": "'cat' has the value 255",
    "1: cat\n2: cat": "the class names 'cat' and 'cat' are alike",
    "cat:48,112,32::\ndog:48,112,32::\n": "'dog' has the colour (48, 112, 32) of another class",
    "cat:0,0,0::\n": "'cat' has the colour (0, 0, 0)",
}


@pytest.mark.parametrize("text", REFUSED_NAMES)
def test_class_names_that_contradict_the_masks_values_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "names.txt").write_text(text)
    with pytest.raises(UserError) as caught:
        read_names(tmp_path / "names.txt")
    assert REFUSED_NAMES[text] in str(caught.value)


def test_names_are_words_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\nred dog\n")
    for given in (Path("cat, red dog"), tmp_path / "names.txt"):
        assert names_in(given).classes == {1: "cat", 2: "red dog"}
    with pytest.raises(UserError, match="cannot read"):
        names_in(Path("other.txt"))


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


@pytest.mark.parametrize(
    ("form", "order"), [*product(MASKS, ["first"]), *product(("colours", "numbers"), ("last", "unnamed", "short"))]
)
def test_a_label_map_names_colours_and_numbers(tmp_path: Path, form: str, order: str) -> None:
    folder = export(tmp_path, MASKS[form], LABEL_MAPS[order])
    assert areas(folder) == areas(folder, folder / "JPEGImages") == {name: 2 * area for name, area in AREAS.items()}
    named = {"images": folder / "JPEGImages", "masks": folder / "SegmentationClass"}
    for options in (named | {"classes": folder / "labelmap.txt"}, {"images": folder, "masks": folder}):
        names, (mask, _) = custom(folder, **options)
        assert names == ["cat", "dog"]
        np.testing.assert_array_equal(mask, VALUES)


def test_unknown_classes_and_borders_of_a_label_map_are_unknown(tmp_path: Path) -> None:
    coloured = COLOURED.copy()
    coloured[:3] = (224, 224, 192)  # VOC's borders
    coloured[-3:] = (9, 9, 9)  # a class named void
    folder = export(tmp_path, Image.fromarray(coloured), [*ENTRIES, "void:9,9,9::"])
    names, (mask, _) = custom(folder, images=folder, masks=folder)
    assert (names, (mask == 255).sum()) == (["cat", "dog"], 6 * WIDTH)
    np.testing.assert_array_equal(mask[3:-3], VALUES[3:-3])


def test_colours_without_a_class_are_named(tmp_path: Path) -> None:
    folder = export(tmp_path, MASKS["colours"], ENTRIES[:2])
    assert "p0.png: 1 colours of this mask have no class, such as (176, 112, 32)" in refusal(folder)


def unnamed(folder: Path, pixels: np.ndarray) -> Path:
    """Write a folder as CVAT exports it, without the label map."""
    export(folder, Image.fromarray(pixels), [])
    (folder / "labelmap.txt").unlink()
    return folder


@pytest.mark.parametrize(
    ("name", "pixels"),
    {
        "colours": COLOURED,
        "shades": np.array([(0, 0, 0), (128, 0, 0), (64, 0, 0)], np.uint8)[VALUES],
        "layers": np.dstack([COLOURED, 255 * (VALUES > 0)]).astype(np.uint8),
        "numbers": VALUES,
        "levels": 100 * VALUES,
    }.items(),
)
def test_several_colours_or_numbers_without_names_are_refused(tmp_path: Path, name: str, pixels: np.ndarray) -> None:
    assert "name the classes" in refusal(unnamed(tmp_path, pixels))


def test_masks_of_different_colours_without_names_are_refused(tmp_path: Path) -> None:
    folder = unnamed(tmp_path, COLOURED)
    for number, value in enumerate((1, 2)):
        Image.fromarray(COLOURED * (value == VALUES)[..., None]).save(folder / f"SegmentationClass/p{number}.png")
    assert "p1.png: this mask and those before hold several classes" in refusal(folder)


def test_a_mask_of_one_class_has_one_colour(tmp_path: Path) -> None:
    folder = unnamed(tmp_path, COLOURED)
    mask = folder / "classes/cat/p0.png"
    mask.parent.mkdir(parents=True)
    MASKS["colours"].save(mask)
    line = r"p0\.png: holds the colours \(48, 112, 32\), .*, and nothing names them"
    with pytest.raises(UserError, match=line):
        custom(folder, images=folder / "JPEGImages", masks=folder / "classes")
    with pytest.raises(UserError, match=line):
        parse_example(f"{folder}/JPEGImages/p0.jpg:{mask}").read()
