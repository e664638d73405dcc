"""Tests of ``prepare.py custom``: a person's own folder or JSON becomes a data set that can be scored."""

import itertools
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from annotations.annotation import PERSON
from annotations.pictures import read_image
from annotations.shapes import encoded
from datasets import recipes
from tests.datasets.class_trees import save, save_grey, save_photo
from tests.datasets.printed import assert_done
from tests.helpers.outcome import Outcome
from tests.helpers.paths import REPOSITORY
from tests.helpers.read import config_of, write_json
from util.config.folds import Fold
from util.config.read import read_data
from util.config.settings import DataSettings
from util.data.lists import image_list as lists
from util.data.lists.index import load_index
from util.data.mini import CLASS_NAMES
from util.files.mask_images import read_mask


@pytest.fixture
def toy_masks(mini_root: Path, tmp_path: Path) -> tuple[object, ...]:
    """Return the arguments for a folder of photos and masks with a file of names."""
    (tmp_path / "names.txt").write_text("background\n" + "\n".join(CLASS_NAMES) + "\n")
    photos_and_masks = ("--images", mini_root / "JPEGImages", "--masks", mini_root / "SegmentationClassAug")
    return "custom", *photos_and_masks, "--classes", tmp_path / "names.txt"


def test_masks_become_a_data_set_with_even_folds(prepare, project: Path, toy_masks: tuple) -> None:
    assert_done(prepare(*toy_masks, "--name", "toys"), "sh train.sh split0 toys 1")
    data = config_of("split1", "toys", net="lite0").data
    assert_even_folds(data)
    train, test = (load_index(data, part, progress=False) for part in ("train", "test"))
    assert len({*train.names, *test.names}) == len(train) + len(test) == 80
    assert test.areas[:, 1:].any(0).all()  # every class can be tested
    fold = Fold.of(data)
    assert len(lists.train_list(train, fold, data).queries) and len(lists.test_list(test, fold, data).queries)


def assert_even_folds(data: DataSettings) -> None:
    """Check that each fold has two classes, and that those of fold 1, the settings', are the novel ones."""
    assert [len(names) for names in data.fold_classes] == [2, 2, 2, 2]
    assert sorted(itertools.chain(*data.fold_classes)) == sorted(CLASS_NAMES)
    novel = [data.classes[class_id - 1] for class_id in Fold.of(data).novel]
    assert sorted(novel) == sorted(data.fold_classes[1])


def test_a_data_set_that_is_there_is_left_alone(prepare, project: Path, toy_masks: tuple) -> None:
    assert_done(prepare(*toy_masks, "--name", "toys"))
    files = [path for path in project.rglob("*") if path.is_file() and "cache" not in path.parts]
    before = {path: path.read_bytes() for path in files}
    assert "data/toys: is made already; remove data/toys" in prepare(*toy_masks, "--name", "toys").error
    other = ("--name", "toys", "--out", "data/other", "--folds", 2)
    assert "toys.yaml: exists with other content" in prepare(*toy_masks, *other).error
    assert {path: path.read_bytes() for path in files} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--fold", "striped disc,dotted star", "--fold", "dotted star"), "fold_classes"),
        (("--name", "Pascal VOC"), "--name Pascal VOC"),
        (("--name", "pascal"), "reserved:"),
        (("--fold", "striped disk", "--fold", "dotted ring"), "did you mean 'striped disc'"),
        (("--folds", 3, "--fold", "dotted ring"), "--folds 3"),
        (("--folds", 9), "9 folds need as many classes"),
        (("--images", "nowhere"), "does not exist"),
        (("--masks", "nowhere"), "does not exist"),
        (("--classes", "nowhere.txt"), "cannot read the class names"),
    ],
)
def test_bad_input_is_one_line_and_no_config(
    prepare, project: Path, toy_masks: tuple, change: tuple, message: str
) -> None:
    assert message in prepare(*toy_masks, "--name", "toys", *change).error
    assert not [p for p in (project / "config").iterdir() if p.stem not in ("model", "encoder", "default", "protocols")]


@pytest.fixture
def spaced(toy_masks: tuple, mini_root: Path, tmp_path: Path) -> tuple[object, ...]:
    """Return the arguments for folders and a photo whose names have spaces, with given folds."""
    photos = tmp_path / "my photos"
    masks = tmp_path / "my masks"
    shutil.copytree(mini_root / "JPEGImages", photos)
    shutil.copytree(mini_root / "SegmentationClassAug", masks)
    first = min(photos.iterdir())
    (masks / f"{first.stem}.png").rename(masks / "my  cat 1.png")
    first.rename(photos / "my  cat 1.jpg")
    folds = ("--fold", "striped disc, dotted star, striped star", "--fold", "dotted ring")
    return (*toy_masks, "--images", photos, "--masks", masks, "--name", "toys", *folds)


def test_names_with_spaces_and_given_folds_and_a_refusal_that_leaves_no_file(
    prepare, project: Path, spaced: tuple, tmp_path: Path
) -> None:
    bad = min((tmp_path / "my photos").iterdir())
    content = bad.read_bytes()
    bad.write_bytes(b"no photo")
    before = {*filter(Path.is_file, project.rglob("*"))}
    assert str(bad) in prepare(*spaced).error
    assert {*filter(Path.is_file, project.rglob("*"))} == before
    bad.write_bytes(content)
    assert_done(prepare(*spaced))
    assert not [*(project / "data").glob(".*"), *(project / "data/toys").glob(".*")]
    fold = Fold.of(config_of("split0", "toys", net="lite0").data)
    assert (fold.novel, fold.base) == ((1, 2, 4), (3, 5, 6, 7, 8))
    assert (project / "data/toys/images/my_cat_1.jpg").resolve() == tmp_path / "my photos/my  cat 1.jpg"
    assert "my_cat_1" in (project / "data/toys/lists/all.txt").read_text().split()


BOX = [[1, 1, 30, 1, 30, 30, 1, 30]]


def coco_content(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Write 24 photos, 0.png and so on; return annotations of a box in each: of a cat on even photos, else of a dog."""
    images = []
    annotations = []
    folder.mkdir()
    for n in range(24):
        Image.fromarray(np.full((40, 40, 3), n, np.uint8)).save(folder / f"{n}.png")
        images.append({"id": n, "file_name": f"{n}.png", "height": 40, "width": 40})
        annotations.append({"id": n, "image_id": n, "category_id": 1 + n % 2, "segmentation": BOX, "iscrowd": 0})
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog: {x}"}, {"id": 3, "name": "horse"}]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.fixture
def annotated_pair(prepare, project: Path, tmp_path: Path) -> Callable[..., Outcome]:
    """Return a function that makes a data set, named ``pair`` first, of changed ``coco_content``."""
    content = coco_content(tmp_path / "photos")
    path = tmp_path / "a.json"
    words = ("custom", "--images", f"{tmp_path}/photos", "--annotations", path, "--folds", 2)

    def call(change: Callable[[dict[str, list[dict[str, Any]]]], object] = lambda content: None) -> Outcome:
        change(content)
        write_json(path, content)
        return prepare(*words, "--name", "pair")

    return call


def test_categories_on_no_image_are_left_out_and_listed(annotated_pair, project: Path) -> None:
    assert_done(annotated_pair(), "left out, on no image: horse")
    assert config_of("split0", "pair", net="lite0").data.classes == ["cat", "dog: {x}"]
    mask = read_mask(project / "data/pair/masks/1.png")  # of category 2
    assert (mask[1:30, 1:30] == 2).all() and not mask[31:].any()


THINGS = [{"id": c, "name": f"thing {c}"} for c in range(1, 301)]
MARKS = [{"id": c, "image_id": 0, "category_id": c, "segmentation": BOX, "iscrowd": 0} for c in range(1, 301)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"categories": [{"id": 1, "name": "cat\nrun: {folder: /tmp/elsewhere}"}], "annotations": MARKS[:1]},
            "are alike, or cannot be printed",
        ),
        ({"categories": THINGS, "annotations": MARKS}, "300 classes"),
    ],
)
def test_names_that_are_yaml_and_more_classes_than_a_mask_holds_are_refused(
    annotated_pair, change: dict[str, list], told: str
) -> None:
    assert told in annotated_pair(lambda content: content.update(change)).error


def write_class_folders(root: Path, mini_root: Path) -> dict[str, np.ndarray]:
    """Write a mask and the photo for each class of each photo; return the masks of class ids by photo."""
    truth = {path.stem: read_mask(path) for path in sorted((mini_root / "SegmentationClassAug").iterdir())}
    for stem, ids in truth.items():
        for class_id in np.unique(ids[ids > 0]).tolist():
            folder = root / CLASS_NAMES[class_id - 1]
            save_grey(folder / f"{stem}.png", ids == class_id)
            shutil.copy(mini_root / f"JPEGImages/{stem}.jpg", folder)
    return truth


def test_folders_by_class_keep_each_photos_classes(prepare, project: Path, mini_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "classes"
    truth = write_class_folders(root, mini_root)
    assert_done(prepare("custom", "--name", "toys", "--images", root, "--masks", root))
    data = config_of("split0", "toys", net="lite0").data  # of Sym-Net, which has a base learner
    photos = []
    new_ids = np.array([0, *(1 + data.classes.index(name) for name in CLASS_NAMES)], np.uint8)
    for part in ("train", "test"):
        index = load_index(data, part, progress=False)
        photos.append({path.read_bytes() for path in index.images})
        for row, name in enumerate(index.names):
            _, mask = index.pair(row)
            _, stem = name.split("/")
            assert np.array_equal(mask, new_ids[truth[stem]])
    of_training, of_test = photos
    assert len(of_training | of_test) == len(of_training) + len(of_test) == len(truth)


def test_a_classs_second_mask_and_a_mask_of_another_size_are_named(
    prepare, project: Path, mini_root: Path, tmp_path: Path
) -> None:
    root = tmp_path / "classes"
    write_class_folders(root, mini_root)
    folder = root / CLASS_NAMES[0]
    words = ("custom", "--name", "toys", "--images", root, "--masks", root)
    shutil.copy(next(folder.glob("*.jpg")), folder / "again.jpg")
    shutil.copy(next(folder.glob("*.png")), folder / "again.png")
    assert f"{folder.name} of" in prepare(*words).error  # a photo would support itself
    (folder / "again.png").unlink()
    odd = next(folder.glob("*.png"))
    Image.new("L", (7, 9), 255).save(odd)
    assert f"{odd.name}: is (9, 7)" in prepare(*words).error


@pytest.fixture
def white(tmp_path: Path) -> tuple[object, ...]:
    """Return the arguments for four photos with masks of 0 and 255 and one class; a name follows."""
    for n in range(4):
        save_photo(tmp_path / f"photos/{n}.png", n, (60, 60))
        save_grey(tmp_path / f"masks/{n}.png", np.indices((60, 60))[0] < 50 + n)
    names = tmp_path / "names.txt"
    names.write_text("crack\n")
    return "custom", "--images", f"{tmp_path}/photos", "--masks", f"{tmp_path}/masks", "--classes", names, "--name"


def test_white_masks_have_one_class_and_one_fold(prepare, project: Path, white: tuple, tmp_path: Path) -> None:
    assert "confirm with --white-is-object" in prepare(*white, "cracks").error
    assert_done(prepare(*white, "cracks", "--white-is-object"))
    data = config_of("split0", "cracks", "multiprototype").data
    assert load_index(data, "test", progress=False).areas[:, 1].tolist() == [60 * 50, 60 * 51, 60 * 52, 60 * 53]
    parted = prepare(*white, "parted", "--white-is-object", "--folds", 3)
    assert "3 folds need as many classes; there is only crack; annotate another class" in parted.error
    assert "photos and masks" not in parted.errors  # the bar of the conversion
    (tmp_path / "names.txt").write_text("crack\nhole\n")
    assert "do not tell 2 classes apart" in prepare(*white, "both").error


def test_the_recipe_of_the_documents_makes_its_data_set(prepare, project: Path, tmp_path: Path, monkeypatch) -> None:
    text = (REPOSITORY / "datasets/recipes/README.md").read_text()
    recipe, config = re.findall(r"^```(?:python|yaml)\n(.*?)^```", text, re.M | re.S)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/oxfordpet.py").write_text(recipe)
    monkeypatch.setattr(recipes, "__path__", [*recipes.__path__, f"{tmp_path}/recipes"])
    (project / "config/oxfordpet").mkdir()
    (project / "config/oxfordpet/oxfordpet.yaml").write_text(config)
    write_pets(tmp_path / "Pets")
    assert "published 3680: differs" in prepare("oxfordpet", "--root", f"{tmp_path}/Pets").output
    sys.modules.pop("datasets.recipes.oxfordpet")
    mask = read_mask(next((project / "data/oxfordpet/masks").iterdir()))
    assert (mask[:50] == 1).all() and (mask[50] == 255).all() and not mask[51:].any()


def write_pets(root: Path) -> None:
    """Write two photos of each of 37 breeds for training and for tests, with trimaps and lists."""
    trimap = np.full((60, 60), 2, np.uint8)
    trimap[:50] = 1
    trimap[50] = 3
    for part in ("trainval", "test"):
        lines = ["#Image CLASS-ID SPECIES BREED-ID"]
        for class_id, number in itertools.product(range(1, 38), range(2)):
            name = f"breed_{part}{number}_{class_id}"
            save(root / f"annotations/trimaps/{name}.png", trimap)
            save(root / f"images/{name}.jpg", trimap, "RGB")
            lines.append(f"{name} {class_id} {1 + class_id % 2} 1")
        (root / f"annotations/{part}.txt").write_text("\n".join(lines))


@pytest.mark.parametrize("form", ["cat/p{}.png", "p{}.png"])
def test_masks_without_background_are_a_question(prepare, project: Path, tmp_path: Path, form: str) -> None:
    for number in range(8):
        save_photo(tmp_path / f"images/p{number}.jpg", number)
        values = np.full((36, 36), 255, np.uint8)
        values[4:24, number : number + 20] = 1
        save(tmp_path / "masks" / form.format(number), values)
    (tmp_path / "names.txt").write_text("cat")
    options = ("custom", "--name", "cats", "--images", f"{tmp_path}/images", "--masks", f"{tmp_path}/masks")
    options += ("--classes", f"{tmp_path}/names.txt")
    error = prepare(*options).error
    assert "in 8 of 8 masks nothing is background" in error and "69% of the pixels are unknown (255)" in error
    assert not (project / "data/cats").exists()
    assert_done(prepare(*options, "--unknown-is-background"))
    (mask,) = (project / "data/cats/masks").rglob("p0.png")
    assert np.unique(read_mask(mask), return_counts=True)[1].tolist() == [36 * 36 - 400, 400]


def test_what_nobody_confirmed_is_no_background(prepare, project: Path, tmp_path: Path) -> None:
    (tmp_path / "found").mkdir()
    for number in range(8):
        photo = tmp_path / f"photos/p{number}.jpg"
        save_photo(photo, number)
        row = {"name": ("cat", "dog")[number % 2], "by": PERSON, "runs": encoded(np.tri(36, dtype=bool))}
        of_photo = {"query": str(photo), "query_file": None, "height": 36, "width": 36}
        write_json(tmp_path / f"found/p{number}.json", {**of_photo, "classes": [row]})
    words = ("custom", "--images", f"{tmp_path}/photos", "--annotations", f"{tmp_path}/found", "--name")
    remedies = "confirm it, or say 'Nothing here' of it on the page; or name one class by --classes"
    said = f"nothing is background on 8 photos with a class that nobody confirmed, such as p0.jpg; {remedies}"
    assert said in prepare(*words, "pets").error
    assert_done(prepare(*words, "cats", "--classes", "cat"))


def test_objects_that_others_cover_wholly_are_counted(prepare, project: Path, tmp_path: Path) -> None:
    content = coco_content(tmp_path / "photos")
    for cat in content["annotations"][:16:2]:
        content["annotations"].append(cat | {"id": cat["id"] + 100, "category_id": 3})
    write_json(tmp_path / "a.json", content)
    made = prepare("custom", "--name", "pair", "--images", f"{tmp_path}/photos", "--annotations", f"{tmp_path}/a.json")
    assert_done(made)
    assert "left out, wholly covered by objects of other classes: cat (8); a pixel has one class" in made.errors


def test_odd_photos_and_masks_are_converted_once(prepare, project: Path, tmp_path: Path) -> None:
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    for number in range(8):
        suffix = (".png", ".webp", ".tif", ".bmp")[number % 4]
        save_photo(photos / f"p{number}{suffix}", number)
        values = np.zeros((36, 36), np.uint16)
        values[4:30, 4 : 20 + number] = 1
        save(masks / f"p{number}.png", values)
    grey = np.linspace(0, 65535, 36 * 36).reshape(36, 36).astype(np.uint16)
    Image.fromarray(grey).save(photos / "p0.png")
    made = prepare("custom", "--name", "odd", "--images", photos, "--masks", masks, "--classes", "cat")
    assert_done(made)
    assert made.output.splitlines()[-1].startswith("look first: data/odd/look.jpg")
    assert Image.open(project / "data/odd/look.jpg").size[0] > 300
    index = load_index(read_data(project / "config/odd/odd.yaml"), "test", progress=False)
    for row, name in enumerate(index.names):
        image, mask = index.pair(row)
        (source,) = photos.glob(f"{name}.*")
        assert np.array_equal(image, read_image(source))
        assert (mask == 1).sum() == 26 * (16 + int(name[1:]))
