"""One mask, whatever its form, marks the same pixels for predict.py, for Python, and in a data set of one's own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from annotations.pictures import read_image
from annotations.region import read_region
from datasets.custom_masks import from_masks
from datasets.custom_plan import CustomOptions
from datasets.make import run_jobs
from photos.example_files import read_examples
from photos.examples import Example, parse_example
from tests.annotations.drawn import AREAS, CAT, DOG, photo, region
from util.files.errors import UserError
from util.files.mask_images import read_mask

INSIDE = region(CAT)
RANDOM = np.random.default_rng(0)
SOFT = Image.fromarray(255 * INSIDE).filter(ImageFilter.GaussianBlur(1))


def _palette(values: np.ndarray, *colours: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(values.astype(np.uint8))
    image.putpalette([part for colour in colours for part in colour])
    return image


def _layer(colour: object, opacity: int = 255) -> Image.Image:
    rgba = np.zeros((*INSIDE.shape, 4), np.uint8)
    rgba[..., :3] = colour
    rgba[..., 3] = opacity * INSIDE
    return Image.fromarray(rgba)


def _rgb(red: int, green: int, blue: int) -> np.ndarray:
    return np.dstack([INSIDE * red, INSIDE * green, INSIDE * blue])


WHITE, BLACK = (255, 255, 255), (0, 0, 0)
FORMS = {
    "bit": Image.fromarray(INSIDE.astype(bool)),
    "index": Image.fromarray(INSIDE),
    "white": Image.fromarray(255 * INSIDE),
    "16 bits": Image.fromarray(INSIDE.astype(np.uint16) * 65535),
    "palette": _palette(INSIDE, BLACK, (128, 0, 0)),
    "sorted palette": _palette(1 - INSIDE, WHITE, BLACK),
    "fewer colours": Image.fromarray(255 * INSIDE).convert("RGB").quantize(2),
    "one colour": Image.fromarray(_rgb(200, 0, 0)),
    "opaque": Image.fromarray(np.dstack([_rgb(255, 255, 255), np.full_like(INSIDE, 255)])),
    "white layer": _layer(255),
    "black layer": _layer(0),
    "thin layer": _layer((255, 0, 0), 127),
    "cut-out": _layer(RANDOM.integers(0, 255, (*INSIDE.shape, 3), np.uint8)),
    "grey cut-out": _layer(255).convert("LA"),
}


@pytest.mark.parametrize("form", FORMS)
def test_all_callers_read_the_same_pixels(tmp_path: Path, form: str) -> None:
    path, mask = _photo_and_mask(tmp_path, FORMS[form])
    supports = [
        parse_example(f"{path}:{mask}").read(),
        Example(None, path, FORMS[form]).read(),
        Example(None, read_image(path), str(mask)).read(),
        *(example.read() for example in read_examples([str(mask.parent)], path.parent)[0]),
    ]
    assert len(supports) == 4
    (tmp_path / "names.txt").write_text("_background_\ncat\n")
    labels = [support.label for support in supports]
    labels.append(_made(tmp_path / "by folders", images=path.parent, masks=mask.parents[1], classes=None))
    labels.append(_made(tmp_path / "named", images=path.parent, masks=mask.parent, classes=tmp_path / "names.txt"))
    assert all(np.array_equal(label, INSIDE) for label in labels)


def _photo_and_mask(folder: Path, mask: Image.Image) -> tuple[Path, Path]:
    """Write a photo, and a mask of it in a folder of its class; return their paths."""
    path = folder / "masks/cat/p0.png"
    path.parent.mkdir(parents=True)
    mask.save(path)
    return photo(folder / "photos/p0.jpg"), path


def _made(out: Path, **options: Path | None) -> np.ndarray:
    """Return the mask in a data set that is made of a user's masks."""
    run_jobs(from_masks(CustomOptions(**options, white_is_object=True)), out, skip_bad=False)
    return read_mask(next((out / "masks").rglob("p0.png")))


def test_arrays_and_tensors_are_read_alike(tmp_path: Path) -> None:
    image = read_image(photo(tmp_path / "p0.jpg"))
    for mask in (INSIDE > 0, INSIDE * 255, INSIDE.astype(float), -INSIDE.astype(int)):
        expected = INSIDE * (255 if mask.min() < 0 else 1)  # negative numbers are ignored
        for given in (mask, torch.from_numpy(mask)):
            assert np.array_equal(Example(None, image, given).read().label, expected)


def test_soft_edges_are_cut_in_the_middle_and_borders_of_255_are_unknown() -> None:
    bright = (np.asarray(SOFT) >= 128).astype(np.uint8)
    for image in (SOFT, SOFT.convert("RGB"), SOFT.convert("RGB").quantize(16)):
        assert (read_region(image)[0] != bright).sum() <= 8  # of 1280
    border = np.where((region((6, 8, 42, 52)) == 1) & (INSIDE == 0), 255, INSIDE)
    assert np.array_equal(read_region(Image.fromarray(border))[0], border)


TRIMAP = np.where(region((8, 7, 40, 10)) == 1, 128, 255 * INSIDE).astype(np.uint8)
OPEN = {
    "without black": (np.where(INSIDE[..., None] == 1, 150, WHITE).astype(np.uint8), "holds the values 150, 255"),
    "red on white": (np.where(INSIDE[..., None] == 1, (255, 0, 0), WHITE).astype(np.uint8), "holds the colours"),
    "a photo with the object in red": (
        np.where(INSIDE[..., None] == 1, (255, 0, 0), RANDOM.integers(64, 256, (*INSIDE.shape, 3))).astype(np.uint8),
        "holds the colours",
    ),
    "class ids": (region(CAT, DOG), "holds the values 1, 2, and nothing names them"),
    "a trimap": (TRIMAP, "holds the values 128, 255, and nothing names them"),
    "instances": (np.arange(INSIDE.size).reshape(INSIDE.shape).astype(np.uint8), "holds the values 1, 2, 3"),
}


@pytest.mark.parametrize("form", OPEN)
def test_a_mask_of_several_values_or_colours_is_refused(tmp_path: Path, form: str) -> None:
    pixels, line = OPEN[form]
    path, mask = _photo_and_mask(tmp_path, Image.fromarray(pixels))
    with pytest.raises(UserError, match=rf"p0\.png: .*{line}"):
        _made(tmp_path / "out", images=path.parent, masks=mask.parents[1], classes=None)
    with pytest.raises(UserError, match=rf"p0\.png: .*{line}"):
        parse_example(f"{path}:{mask}").read()


def test_a_sorted_palette_of_several_classes_is_refused(tmp_path: Path) -> None:
    image = _palette((region(CAT, DOG) + 2) % 3, (255, 0, 0), (0, 255, 0), BLACK)
    _, mask = _photo_and_mask(tmp_path, image)
    with pytest.raises(UserError, match=r"p0\.png: the palette of this mask is sorted"):
        read_mask(mask)


# The masks' suffix, a file of names beside them, its names, the values of cat, dog and unknown pixels
NAMED = {
    "labels.txt": (".png", ["_background_", "cat", "dog"], [1, 2, 255]),
    "class_names.txt": (".PNG", ["__ignore__", "_background_", "cat", "dog"], [1, 2, 255]),
    "names.txt": (".tif", ["background", "cat", "void", "dog"], [1, 3, 2]),
}


@pytest.fixture(params=NAMED)
def named_masks(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a folder of a photo, its mask of two classes, a mask without a photo, files of systems, and names."""
    suffix, names, values = NAMED[request.param]
    photo(tmp_path / "images/p0.jpg")
    ids = Image.fromarray(np.array([0, *values], np.uint8)[region(CAT, DOG, (0, 0, 4, 4))])
    folder = tmp_path / "masks"
    (folder / ".ipynb_checkpoints").mkdir(parents=True)
    for name in ("p0", "p1"):
        ids.save(folder / f"{name}{suffix}")
    (folder / "._p0.png").write_bytes(b"\0\5")
    (tmp_path / request.param).write_text("\n".join(names))
    return tmp_path


def test_names_beside_masks_say_what_their_values_mean(named_masks: Path, capsys) -> None:
    listed, categories = read_examples([str(named_masks)])
    assert [*categories.values()] == ["cat", "dog"]
    for example in listed:
        label = example.read().label
        assert ((label == 1).sum(), (label == 255).sum()) == (AREAS[example.name], 16)
    (names,) = named_masks.glob("*.txt")
    plan = from_masks(CustomOptions(images=named_masks / "images", masks=named_masks / "masks", classes=names))
    run_jobs(plan, named_masks / "out", skip_bad=False)
    made = read_mask(named_masks / "out/masks/p0.png")
    assert "masks without a photo (1, such as p1" in capsys.readouterr().err
    assert plan.classes == ["cat", "dog"]
    assert [(made == value).sum() for value in (1, 2, 255)] == [*AREAS.values(), 16]
