"""The code of the documents that a newcomer follows runs as it stands, in a copy, in the order in which it is read.

What is not run, what is run in place of a line, and by what all runs are shortened is listed here and nowhere else.
"""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers.copied import Copy
from tests.helpers.narrow import NARROW
from tests.helpers.paths import REPOSITORY
from tests.helpers.read import json_of
from util.files.mask_images import write_mask

READ_TOGETHER = {  # a document that needs what earlier ones made is in their group; files that commands make silently
    ("README", "docs/results", "docs/first_table", "docs/python", "docs/service"): (
        "runs/pascal_split0_pocket_lite0/meta/best.pth",
        "runs/worst.png",
        "runs/shared/model.safetensors",
        "results/new_mask.png",
    ),
    ("docs/new_method",): ("tests/golden/mine_resnet10_narrow.npz",),
    ("docs/configuration", "docs/own_photos"): ("runs/coins/review.html", "config/cups/cups.yaml"),
}
DOCUMENTS = tuple(document for group in READ_TOGETHER for document in group)
LEFT_OUT = {  # the start of a line: why it is not run
    "git clone": "a reader's copy",
    "pip install torch": "downloads gigabytes; check.sh and demo.sh install the same",
    "pip install -r requirements.txt": "the same",
    'python -c "from torchvision.datasets': "downloads gigabytes",
    "sh demo.sh": "trains for minutes; its commands are those of other pages",
    "sh check.sh": "runs this test",
    "python predict.py serve": "serves until it is stopped; the tests of the page start it",
    "hf upload": "publishes",
    "uvx --from": "downloads gigabytes",
    "python predict.py --model insid3 --net dinov2_vits14": "downloads its weights",
    "pip install path/to/this/clone": "tests/test_install.py does",
    "pip install fastapi": "downloads; check.sh installs it",
    "uvicorn service:app": "serves until it is stopped; the application is called below",
    "curl -F": "asks that server",
    "sh train.sh split0 pascal 1 word2vec base.pth": "a reader's own files",
    "sh test.sh split0 pascal 1 authors.pth word2vec": "a reader's own files",
}
NARROW_ENCODER = f"--set imports=[tests/helpers/narrow.py] --set model.encoder.backbone={NARROW}"
FEW_IMAGES = "prepare.py mini --images 48"
SMALL_PHOTOS = "side=129"  # as a network sees them
INSTEAD = {  # words of a line: what stands for them on a machine without GPU and network
    "prepare.py pascal --voc data/raw --sbd data/sbd": "prepare.py pascal --voc made/VOC2012\n"
    f"NET=resnet10 sh train.sh split0 pascal 0 {NARROW_ENCODER} $SHORT $BASE",  # the training that the page begins with
    "sh test.sh split0 pascal 1 --protocol": f"NET=resnet10 sh test.sh split0 pascal 0 {NARROW_ENCODER} --protocol",
    "--models pocket": "--models pocket --folds 0",
    "split0 pascal 1": "split0 pascal 0",
    "path/to/this/clone": ".",
    "--annotations runs/both": "--annotations runs/both --unconfirmed",
    "runs/demo/symnet/meta": "runs/mini_split0_ssp_lite0/meta",
    "prepare.py mini": FEW_IMAGES,
    "sh reproduce.sh laptop": "python prepare.py pascal --voc made/VOC2012\nsh reproduce.sh laptop",
    "--seeds 1,2,3": "--seeds 1 --shot 1",
    'box=150,60,420,300")]})': f'box=150,60,420,300")]}}, {SMALL_PHOTOS})',
    "Decision(min_presence=0.5))": f"Decision(min_presence=0.5, refine=False), {SMALL_PHOTOS})",
}
MORE_PYTHON = {  # that uses what a document only defines
    "docs/service": (
        "from io import BytesIO\n"
        "from PIL import Image\n"
        "from service import HTTPException, UploadFile, segment\n"
        "assert segment(UploadFile(open('new.jpg', 'rb')))\n"
        "large = BytesIO()\n"
        "Image.new('1', (6000, 5001)).save(large, 'PNG')\n"
        "for content, code in ((large.getvalue(), 413), (b'no photo', 422)):\n"
        "    try:\n"
        "        segment(UploadFile(BytesIO(content)))\n"
        "        raise AssertionError(code)\n"
        "    except HTTPException as error:\n"
        "        assert error.status_code == code and '0x' not in error.detail\n"
    ),
}
STAGE = ("epochs=1", "epoch_length=4", "batch=2", "validate_episodes=2", "validate_every=1")
BASE = [
    "base_stage.size=49",
    *(f"base_stage.{setting}" for setting in STAGE),
]  # of lines without ``MODEL=``: Sym-Net's; Mine has none
SHORT = [  # settings of all trainings and tests
    *("data.size=49", "meta_stage.size=49", "data.min_pixels=100", "data.workers=0"),
    *("protocols.hsnet.list_file=null", "protocols.hsnet.side=49"),
    *(
        f"protocols.{name}.{setting}"
        for name in ("symnet", "bam", "hsnet", "ssp")
        for setting in ("episodes=4", "seeds=[0]")
    ),
    *(f"meta_stage.{setting}" for setting in STAGE),
]
OPTIONS = "--set run.device=cpu --set run.folder=runs/cells --set data.size=65 --set data.workers=0"
TRAINING = "--set meta_stage.epochs=1 --set meta_stage.epoch_length=4 --set meta_stage.validate_every=0"
SHORTER_CELLS = {  # what a cell of the notebook says, and what runs in its place
    'OPTIONS = ""\n': f'OPTIONS = "{OPTIONS}"\n',
    'box=133,26,181,74")]})': 'box=133,26,181,74")]}, side=257)',
    "train.py split0": f"train.py {TRAINING} split0",
    "test.py split0": "test.py --set test.episodes=4 split0",
    "runs/mini_split0_": "runs/cells/mini_split0_",
    "prepare.py mini": FEW_IMAGES,
}
RUNS = re.compile(r"^((?:[A-Z]+=\S+ )*sh (?:train|test|reproduce)\.sh\b.*?)(?=\s+#|\s+&&|$)", re.M)
PREDICTIONS = re.compile(r"^(python predict\.py .*--query .*?)(?=\s+#|$)", re.M)
BLOCK = re.compile(
    r"(?:Save this as `(?P<path>[^`]+)`(?:(?!```).)*)?^```(?P<language>\w+)\n(?P<text>.*?)^```", re.M | re.S
)


def code_of(document: str) -> tuple[dict[str, str], str, str]:
    """Return the files that a document tells to save, its shell script, and its Python without these files."""
    files = {}
    texts = {"sh": "", "python": ""}
    for block in BLOCK.finditer((REPOSITORY / f"{document}.md").read_text()):
        if block["path"]:
            files[block["path"]] = block["text"]
        elif block["language"] in texts:
            texts[block["language"]] += block["text"]
    return files, texts["sh"], texts["python"]


def script_of(text: str) -> str:
    """Return a document's shell script with shorter runs, and without what is not run."""
    lines = text.replace("\\\n", " ").splitlines()
    script = "\n".join(line for line in lines if not line.startswith(tuple(LEFT_OUT)))
    script = RUNS.sub(r"\1 $SHORT", script)
    script = re.sub(r"^(sh (?:train|test)\.sh (?!mine\.yaml mini).*\$SHORT)", r"\1 $BASE", script, flags=re.M)
    script = PREDICTIONS.sub(r"\1 --resize 129 --no-refine", script)
    return replaced(script)


def replaced(text: str) -> str:
    for words, others in INSTEAD.items():
        text = text.replace(words, others)
    return text


def make_photos(folder: Path) -> None:
    """Write the photos of a cup on a dish that the documents name, and a mask of each."""
    for place in ("my_photos", "more_photos"):
        (folder / place).mkdir()
    names = (
        "photo.jpg",
        "cup.jpg",
        "dish.jpg",
        "new.jpg",
        "more_photos/0.jpg",
        *(f"my_photos/{number}.jpg" for number in range(8)),
    )
    for seed, name in enumerate(names):
        image, cup, dish = scene(seed)
        cv2.imwrite(str(folder / name), image)
        if seed < 2:
            for mask in ("mask.png", "cup_mask.png", "cup.png"):
                cv2.imwrite(str(folder / mask), 255 * cup)
            cv2.imwrite(f"{folder}/dish.png", 255 * dish)


def scene(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a photo (360, 480, 3) with a cup and a dish at one place, and their masks."""
    random = np.random.default_rng(seed)
    image = random.normal((120, 150, 90), 12, (360, 480, 3))
    cup, dish = np.zeros((2, 360, 480), np.uint8)
    cv2.ellipse(dish, (290, 230), (130, 60), 0, 0, 360, 1, -1)
    cv2.rectangle(cup, (220, 100), (330, 250), 1, -1)
    image[dish > 0] += (90, 60, -60)
    image[cup > 0] = random.normal((30, 40, 200), 12, (int(cup.sum()), 3))
    dish[cup > 0] = 0
    return image.clip(0, 255).astype(np.uint8), cup, dish


def make_voc(root: Path) -> None:
    """Write VOC in small: six photos of each class to train and to test, as five supports need."""
    random = np.random.default_rng(0)
    names = {"train": [], "val": []}
    for number in range(240):
        part = ("train", "val")[number % 2]
        names[part].append(f"2012_{number:06}")
        image = random.integers(0, 256, (96, 96, 3), np.uint8)
        mask = np.zeros((96, 96), np.uint8)
        mask[16:80, 12:76] = 1 + number // 12
        image[mask > 0] //= 2
        for folder in ("JPEGImages", "SegmentationClass"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(f"{root}/JPEGImages/{names[part][-1]}.jpg", image)
        write_mask(root / f"SegmentationClass/{names[part][-1]}.png", mask)
    for part, lines in names.items():
        path = root / f"ImageSets/Segmentation/{part}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def with_photos(copy: Copy) -> Copy:
    """Give the copy of the repository the photos and the data that the documents name."""
    make_photos(copy.folder)
    make_voc(copy.folder / "made/VOC2012")
    return copy


@pytest.mark.process
@pytest.mark.train
@pytest.mark.parametrize("documents", READ_TOGETHER, ids=" ".join)
def test_the_documents_run_as_they_stand(documents: tuple[str, ...], with_photos: Copy) -> None:
    for document in documents:
        run(document, with_photos)
    assert [path for path in READ_TOGETHER[documents] if not (with_photos.folder / path).exists()] == []


@pytest.mark.process
@pytest.mark.train
def test_the_cells_of_the_notebook_run(copy: Copy) -> None:
    cells = json_of(REPOSITORY / "docs/first_hour.ipynb")["cells"]
    script = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    for words, shorter in SHORTER_CELLS.items():
        assert words in script
        script = script.replace(words, shorter)
    (copy.folder / "docs/cells.py").write_text(script)
    said = copy.type("cd docs\npython cells.py")  # a notebook starts there
    assert "portrait.jpg: presence score 0%, 0 pixels" in said
    masks = {path.name for path in (copy.folder / "runs/first_hour").glob("*_mask.png")}
    assert masks == {"coins_2_mask.png", "coins_3_mask.png", "coins_4_mask.png", "portrait_mask.png"}
    assert "| SSP EfficientNet-Lite0" in said
    assert "| prototype baseline EfficientNet-Lite0" in said


def test_each_exempt_command_stands_in_a_document() -> None:
    text = "".join((REPOSITORY / f"{document}.md").read_text() for document in DOCUMENTS)
    assert [words for words in (*LEFT_OUT, *INSTEAD) if words not in text] == []


def run(document: str, copy: Copy) -> None:
    files, shell, python = code_of(document)
    for name, text in files.items():
        file = copy.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (copy.folder / "blocks.py").write_text(replaced(python) + MORE_PYTHON.get(document, ""))
    copy.type(f"SHORT='{as_options(SHORT)}'\nBASE='{as_options(BASE)}'\nset -x\n{script_of(shell)}\npython blocks.py")


def as_options(settings: list[str]) -> str:
    return " ".join(f"--set {setting}" for setting in settings)
