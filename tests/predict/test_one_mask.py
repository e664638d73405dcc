"""One mask, whatever its form, marks the same pixels for predict.py, for Python, and in a data set of one's own."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from tests.formats.drawn import AREAS, CAT, DOG, photo, region
from util.data.images.read import read_image, read_mask
from util.data.images.region import read_region
from util.errors import UserError
from util.predict.supports import parse_support, read_supports, support_from_arrays
from util.prepare.custom_sources import from_masks
from util.prepare.make import run_jobs

INSIDE = region(CAT)
SOFT = Image.fromarray(255 * INSIDE).filter(ImageFilter.GaussianBlur(1))


def _palette(values: np.ndarray, *colours: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(values.astype(np.uint8))
    image.putpalette([part for colour in colours for part in colour])
    return image


def _layer(colour: object, opacity: int = 255) -> Image.Image:
    out = np.zeros((*INSIDE.shape, 4), np.uint8)
    out[..., :3], out[..., 3] = colour, opacity * INSIDE
    return Image.fromarray(out)


WHITE, BLACK = (255, 255, 255), (0, 0, 0)
FORMS = {
    "bit": Image.fromarray(INSIDE.astype(bool)),
    "index": Image.fromarray(INSIDE),
    "white": Image.fromarray(255 * INSIDE),
    "16 bits": Image.fromarray(INSIDE.astype(np.uint16) * 65535),
    "palette": _palette(INSIDE, BLACK, (128, 0, 0)),
    "sorted palette": _palette(1 - INSIDE, WHITE, BLACK),
    "fewer colours": Image.fromarray(255 * INSIDE).convert("RGB").quantize(2),
    "one colour": Image.fromarray(np.dstack([INSIDE * 200, INSIDE * 0, INSIDE * 0])),
    "opaque": Image.fromarray(np.dstack([INSIDE * 255] * 3 + [INSIDE * 0 + 255])),
    "white layer": _layer(255),
    "black layer": _layer(0),
    "thin layer": _layer((255, 0, 0), 127),
    "cut-out": _layer(np.random.default_rng(0).integers(0, 255, (*INSIDE.shape, 3), np.uint8)),
    "grey cut-out": _layer(255).convert("LA"),
}


@pytest.mark.parametrize("form", FORMS)
def test_all_callers_read_the_same_pixels(tmp_path: Path, form: str) -> None:
    path, mask = photo(tmp_path / "photos/p0.jpg"), tmp_path / "masks/cat/p0.png"
    mask.parent.mkdir(parents=True)
    FORMS[form].save(mask)
    labels = [parse_support(f"{path}:{mask}").read().label, support_from_arrays(path, FORMS[form]).label]
    labels += [
        support_from_arrays(read_image(path), str(mask)).label,
        read_supports([str(mask.parent)], path.parent)[0][0].read().label,
    ]
    (tmp_path / "names.txt").write_text("_background_\ncat\n")
    for number, (folder, names) in enumerate(((mask.parents[1], None), (mask.parent, tmp_path / "names.txt"))):
        options = Namespace(images=path.parent, masks=folder, classes=names, white_is_object=True)
        run_jobs(from_masks(options), out := tmp_path / f"out{number}", skip_bad=False)
        labels.append(read_mask(next((out / "masks").rglob("p0.png"))))
    assert all(np.array_equal(label, INSIDE) for label in labels)


def test_arrays_and_tensors_are_read_alike(tmp_path: Path) -> None:
    image = read_image(photo(tmp_path / "p0.jpg"))
    for mask in (INSIDE > 0, INSIDE[None], INSIDE.astype(float), -INSIDE.astype(int), INSIDE[..., None] * 255):
        wanted = INSIDE * (255 if mask.min() < 0 else 1)  # negative numbers are ignored
        for given in (mask, torch.from_numpy(mask)):
            assert np.array_equal(support_from_arrays(image, given).label, wanted)


def test_soft_edges_are_cut_in_the_middle_and_borders_of_255_are_unknown() -> None:
    bright = (np.asarray(SOFT) >= 128).astype(np.uint8)
    for image in (SOFT, SOFT.convert("RGB"), SOFT.convert("RGB").quantize(16)):
        assert (read_region(image)[0] != bright).sum() <= 8  # of 1280
    border = np.where((region((6, 8, 42, 52)) == 1) & (INSIDE == 0), 255, INSIDE)
    assert np.array_equal(read_region(Image.fromarray(border))[0], border)


def test_a_mask_without_a_meaning_is_refused(tmp_path: Path) -> None:
    path, mask = photo(tmp_path / "photos/p0.jpg"), tmp_path / "masks/cat/p0.png"
    mask.parent.mkdir(parents=True)
    colours = np.where(INSIDE[..., None] == 1, (255, 0, 0), WHITE).astype(np.uint8)
    Image.fromarray(colours).save(mask)
    with pytest.raises(UserError, match=r"p0\.png: .* none is black"):
        parse_support(f"{path}:{mask}").read()
    Image.fromarray(region(CAT, DOG)).save(mask)  # of class ids
    options = Namespace(images=path.parent, masks=mask.parents[1], classes=None, white_is_object=False)
    with pytest.raises(UserError, match=r"p0\.png: holds the values \[1, 2\] beside 0; is it of class ids"):
        run_jobs(from_masks(options), tmp_path / "out", skip_bad=False)
    assert (parse_support(f"{path}:{mask}").read().label == 1).sum() == sum(AREAS.values())
    _palette((region(CAT, DOG) + 2) % 3, (255, 0, 0), (0, 255, 0), BLACK).save(mask)
    with pytest.raises(UserError, match=r"p0\.png: the palette of this mask is sorted"):
        read_mask(mask)


@pytest.mark.parametrize(
    ("suffix", "file", "names", "values", "unknown"),
    [
        (".png", "labels.txt", ["_background_", "cat", "dog"], (1, 2), 255),
        (".PNG", "class_names.txt", ["__ignore__", "_background_", "cat", "dog"], (1, 2), 255),
        (".tif", "names.txt", ["background", "cat", "void", "dog"], (1, 3), 2),
    ],
)
def test_a_file_of_names_says_what_values_mean(tmp_path: Path, capsys, suffix, file, names, values, unknown) -> None:
    path, mask = photo(tmp_path / "images/p0.jpg"), tmp_path / f"masks/p0{suffix}"
    mask.parent.mkdir()
    ids = np.array([0, *values, unknown], np.uint8)[region(CAT, DOG, (0, 0, 4, 4))]
    Image.fromarray(ids).save(mask), Image.fromarray(ids).save(mask.with_stem("p1"))
    (mask.parent / "._p0.png").write_bytes(b"\0\5"), (mask.parent / ".ipynb_checkpoints").mkdir()
    (tmp_path / file).write_text("\n".join(names))
    listed, categories = read_supports([str(tmp_path)])
    assert {one.name: int((one.read().label == 1).sum()) for one in listed} == AREAS
    assert [*categories.values()] == ["cat", "dog"] and all((s.read().label == 255).sum() == 16 for s in listed)
    plan = from_masks(Namespace(images=path.parent, masks=mask.parent, classes=tmp_path / file))
    run_jobs(plan, tmp_path / "out", skip_bad=False)
    made = read_mask(tmp_path / "out/masks/p0.png")
    assert "without a photo: 1 masks, such as p1" in capsys.readouterr().err
    assert plan.classes == ["cat", "dog"] and [(made == v).sum() for v in (1, 2, 255)] == [*AREAS.values(), 16]
