"""The meaning of the numbers in a set of masks: names, palettes and 255, for predict.py and a data set of one's own."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotations.mask_set import facts_of
from tests.annotations import drawn
from tests.annotations.drawn import AREAS, CAT, DOG, HEIGHT, WIDTH, areas, photo, refusal
from util.files.errors import UserError
from util.files.palette import voc_palette

INVERTING = [level for value in range(255, -1, -1) for level in (value,) * 3]  # as ImageJ shows masks
OWN = [0, 0, 0, 200, 0, 10, 0, 200, 10]
VOC = voc_palette()
Save = Callable[[np.ndarray], Image.Image]


def ids(*objects: tuple[tuple[int, ...], int]) -> np.ndarray:
    """Return a mask (H, W) uint8 of boxes with their values."""
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    for (x0, y0, x1, y1), value in objects:
        values[y0:y1, x0:x1] = value
    return values


def whole(palette: list[int]) -> Save:
    def save(values: np.ndarray) -> Image.Image:
        image = Image.fromarray(values)
        image.putpalette(palette)
        return image

    return save


def reduced(palette: list[int]) -> Save:
    """Return the writer of a palette that holds the colours in use alone."""

    def save(values: np.ndarray) -> Image.Image:
        used, indices = np.unique(values, return_inverse=True)
        colours = np.reshape(palette, (-1, 3))[used]
        return whole(colours.ravel().tolist())(indices.reshape(values.shape).astype(np.uint8))

    return save


def write(folder: Path, masks: list[Image.Image], names: str) -> Path:
    """Write photos, their masks and a file of names."""
    (folder / "masks").mkdir(parents=True)
    for number, mask in enumerate(masks):
        photo(folder / f"images/p{number}.jpg")
        mask.save(folder / f"masks/p{number}.png")
    (folder / "names.txt").write_text(names)
    return folder


def custom(folder: Path, white_is_object: bool = False) -> tuple[list[str], list[np.ndarray]]:
    """Return the classes and the masks of the data set that prepare.py makes."""
    parts = {"images": folder / "images", "masks": folder / "masks", "classes": folder / "names.txt"}
    return drawn.custom(folder, white_is_object=white_is_object, **parts)


def assert_read(folder: Path) -> None:
    """Check that both commands find the cat on the first photo and the dog on the second."""
    assert areas(folder) == AREAS
    classes, masks = custom(folder)
    for name, mask in zip(AREAS, masks, strict=True):
        assert (mask == 1 + classes.index(name)).sum() == AREAS[name] == (mask > 0).sum()


def assert_refused(folder: Path, line: str) -> None:
    """Check that both commands refuse the folder with a line, and that nothing is written."""
    assert line in refusal(folder)
    with pytest.raises(UserError) as caught:
        custom(folder)
    assert line in str(caught.value)
    assert not (folder / "out").exists()


UNKNOWN_NAMES = (
    "void",
    "Unknown",
    "unclassified",
    "ignored",
    "no-data",
    "NODATA",
    "don't care",
    "Dont_Care",
    "unlabelled",
)


@pytest.mark.parametrize("name", UNKNOWN_NAMES)
def test_pixels_whose_name_is_a_word_for_it_are_unknown(tmp_path: Path, name: str, capsys) -> None:
    masks = [Image.fromarray(ids((CAT, 1), (DOG, 3))), Image.fromarray(ids((DOG, 2)))]
    folder = write(tmp_path, masks, f"cat\ndog\n{name}")
    classes, (first, _) = custom(folder)
    assert classes == ["cat", "dog"]
    assert [int((first == value).sum()) for value in (1, 255)] == [AREAS["cat"], AREAS["dog"]]
    assert f"unknown (255): {name} (3)" in capsys.readouterr().err
    assert areas(folder) == AREAS


SIMPLE = [ids((CAT, 1)), ids((DOG, 2))]
PARTLY_GREY = [0, 0, 0, 2, 2, 2, 180, 120, 120]


@pytest.mark.parametrize(
    ("kind", "case"),
    {  # how values are saved, the values, the names
        "grey": (Image.fromarray, SIMPLE, "cat\ndog"),
        "VOC's": (whole(VOC), SIMPLE, "cat\ndog"),
        "own": (whole(OWN), SIMPLE, "cat\ndog"),
        "of white ground": (whole([255] * 3 + OWN[3:]), SIMPLE, "cat\ndog"),
        "partly grey": (whole(PARTLY_GREY), SIMPLE, "cat\ndog"),
        "inverting": (whole(INVERTING), SIMPLE, "cat\ndog"),
        "16 bits": (lambda values: Image.fromarray(values.astype(np.uint16)), SIMPLE, "cat\ndog"),
        "gaps": (Image.fromarray, [ids((CAT, 7)), ids((DOG, 14))], "7: cat\n14: dog"),
        "a stated name in no mask": (Image.fromarray, SIMPLE, "1: cat\n2: dog\n3: horse"),
        "reduced, by colours": (reduced(VOC), SIMPLE, "cat:128,0,0::\ndog:0,128,0::\n"),
    }.items(),
)
def test_masks_are_read_by_their_values(tmp_path: Path, kind: str, case: tuple) -> None:
    save, values, names = case
    assert_read(write(tmp_path, [*map(save, values)], names))


def compressed(mask: Image.Image) -> Image.Image:
    """Return a mask as a JPEG has kept it."""
    file = io.BytesIO()
    mask.resize((320, 240), Image.Resampling.NEAREST).save(file, "JPEG", quality=90)
    return Image.fromarray(np.asarray(Image.open(file)))


SHARP = Image.fromarray(ids((CAT, 1), (DOG, 15)))
COW = Image.fromarray(ids((CAT, 3)))
FIFTEEN = "\n".join(f"class {value}" for value in range(1, 16))
FILLED = np.full((HEIGHT, WIDTH), 2, np.uint8)
BANDS = "lie only in thin bands along edges"


@pytest.mark.parametrize(
    ("kind", "case"),
    {  # the masks, their names, the line
        "a first word for unknown pixels": (
            [Image.fromarray(ids((CAT, 2), (DOG, 3)))] * 2,
            "unknown\ncat\ndog",
            "holds the value 3",
        ),
        "a last name that no mask holds": (
            [*map(Image.fromarray, SIMPLE)],
            "meadow\ncat\ndog",
            "does the first line, 'meadow', name the value 0?",
        ),
        "255 among several classes": (
            [Image.fromarray(ids((CAT, 1), (DOG, 2))), Image.fromarray(ids((CAT, 255)))],
            "cat\ndog",
            "give those pixels the value of their class",
        ),
        "VOC's colours": ([*map(reduced(VOC), SIMPLE)], "cat\ndog", "the value 1 the colour (0, 128, 0), but in"),
        "own colours": ([*map(reduced(OWN), SIMPLE)], "cat\ndog", "the value 1 the colour (0, 200, 10), but in"),
        "a photo without ground": (
            [reduced(OWN)(ids((CAT, 1), (DOG, 2))), reduced(OWN)(FILLED)],
            "cat\ndog",
            "the value 0 the colour (0, 200, 10), but in",
        ),
        "bilinear": ([SHARP.resize((320, 240), Image.Resampling.BILINEAR)], FIFTEEN, BANDS),
        "bicubic": ([SHARP.resize((320, 240), Image.Resampling.BICUBIC)], FIFTEEN, BANDS),
        "made smaller": ([SHARP.resize((70, 50), Image.Resampling.BILINEAR)], FIFTEEN, BANDS),
        "turned": ([SHARP.rotate(10, Image.Resampling.BILINEAR)], FIFTEEN, BANDS),
        "JPEG": ([compressed(SHARP)], FIFTEEN, BANDS),
        "one smooth mask": (
            [
                Image.fromarray(ids((CAT, 1), (DOG, 2))),
                COW,
                COW.resize((192, 144), Image.Resampling.BILINEAR),
            ],
            "cat\ndog\ncow",
            f"p2.png: values such as 1, 2 {BANDS}",
        ),
    }.items(),
)
def test_masks_whose_values_are_open_are_refused(tmp_path: Path, kind: str, case: tuple) -> None:
    masks, names, line = case
    assert_refused(write(tmp_path, masks, names), line)


def test_names_that_no_mask_holds_are_left_out_with_a_note(tmp_path: Path, capsys) -> None:
    assert_read(write(tmp_path, [*map(Image.fromarray, SIMPLE)], "cat\ndog\nhorse\ncow"))
    line = "left out, in no mask: horse (3), cow (4); its first line, 'cat', is the value 1"
    assert capsys.readouterr().err.count(line) == 2


@pytest.mark.parametrize("save", [Image.fromarray, whole(VOC)], ids=["grey", "palette"])
def test_masks_of_255_beside_class_ids_are_asked_about(tmp_path: Path, save: Save) -> None:
    folder = write(tmp_path, [save(ids((CAT, 1))), save(ids((CAT, 255)))], "cat")
    assert_refused(folder, "1 mask(s), such as p1.png, hold only 255")
    _, made = custom(folder, white_is_object=True)
    assert [int((mask == 1).sum()) for mask in made] == [AREAS["cat"]] * 2


def test_255_is_the_border_of_class_ids_and_unknown_alone(tmp_path: Path) -> None:
    masks = [ids((CAT, 255), ((10, 12, 38, 48), 1)), ids((DOG, 1))]
    _, made = custom(write(tmp_path, [*map(Image.fromarray, masks)], "cat"))
    assert all(map(np.array_equal, made, masks))
    folder = write(tmp_path / "white", [Image.fromarray(ids((CAT, 255)))], "cat")
    assert "hold only 255, which means unknown" in refusal(folder)


def test_masks_of_one_named_class_may_show_it_in_any_form(tmp_path: Path) -> None:
    shown = ids((CAT, 1))
    forms = [Image.fromarray(shown), Image.fromarray(shown > 0), Image.fromarray(np.dstack([shown * 255] * 3))]
    folder = write(tmp_path, forms, "cat")
    assert areas(folder) == {"cat": 3 * AREAS["cat"]}
    _, made = custom(folder)
    assert [int((mask == 1).sum()) for mask in made] == [AREAS["cat"]] * 3


def lines(*drawn: tuple[slice, slice, int], ground: int = 0) -> np.ndarray:
    """Return a mask of lines and boxes, each with its rows, columns and value."""
    values = np.full((160, 240), ground, np.uint8)
    for rows, columns, value in drawn:
        values[rows, columns] = value
    return values


ALL = slice(None)
BUILDING = (slice(20, 60), slice(20, 90), 9)
CARS = [(slice(99, 140), slice(left, left + 30), 7) for left in range(5, 240, 50)]


@pytest.mark.parametrize(
    ("kind", "values"),
    {
        "wire before a building": lines(BUILDING, (slice(40, 42), ALL, 5)),
        "wire on one ground": lines((slice(90, 92), ALL, 5), BUILDING, ground=2),
        "kerb": lines((slice(80, 160), ALL, 3), (slice(78, 80), ALL, 2), BUILDING, *CARS, ground=1),
        "small beside large": lines(
            *((slice(9 * n, 9 * n + 4), slice(9 * n, 9 * n + 4), 4) for n in range(15)), BUILDING
        ),
        "borders of 255": lines((slice(20, 60), slice(20, 40), 255), (slice(23, 57), slice(23, 37), 5), BUILDING),
    }.items(),
)
def test_thin_objects_are_classes(tmp_path: Path, kind: str, values: np.ndarray) -> None:
    Image.fromarray(values).save(tmp_path / "mask.png")
    assert facts_of(tmp_path / "mask.png").bands == frozenset()
