"""Tests on published lists: which protocols take them, and how results say so."""

from pathlib import Path

import pytest

from tests.evaluate.quick import PROTOTYPE, lines
from util.config.folds import Fold
from util.config.read import read_config
from util.data.lists.image_list import test_list as novel_list
from util.data.lists.index import load_index
from util.evaluate.testing import test as score
from util.report.paper_table import table
from util.report.result_table import title

pytestmark = pytest.mark.train

TEST = {"checkpoint": "none", "episodes": 5, "pictures": 0}


@pytest.fixture
def listed(mini_yaml, tmp_path: Path):
    """Return a function that gives a config whose protocols hsnet and dcama have a published list of some lines."""

    def make(*more: str):
        protocols = {name: {"list_file": str(tmp_path / "val_fold{fold}.txt")} for name in ("hsnet", "dcama")}
        path = mini_yaml(PROTOTYPE, test=TEST, protocols=protocols)
        data = read_config(path).data
        index = load_index(data, "test", progress=False)
        pairs = novel_list(index, Fold.of(data), data).pairs[::-1][:5]
        text = [f"{index.names[row]} {c}\n" for row, c in pairs]
        (tmp_path / "val_fold0.txt").write_text("".join([*text, *more]))
        return path, [index.names[row] for row, _ in pairs]

    return make


def test_a_protocol_runs_on_its_list_and_says_so(listed, tmp_path: Path) -> None:
    path, names = listed()
    wide = ["protocols.symnet.input=stretch", "protocols.symnet.side=100", "protocols.symnet.smooth=true"]
    one, two, other = score(read_config(path, wide), ("hsnet", "dcama", "symnet"))
    folder = tmp_path / "runs/tiny/test"
    for place in (folder / "hsnet_quick", folder / "dcama_quick"):
        assert [episode["query"] for episode in lines(place)] == names
    assert "hsnet (contiguous folds, published list)" in title(one) and one["list_note"] == ""
    assert one["list"] == two["list"] != other["list"] and one["list_source"] == str(tmp_path / "val_fold0.txt")
    assert "list" not in title(other) and not other["shared_with"]
    rule = score(read_config(path, ["protocols.hsnet.list_file=null"]), ("hsnet",))[0]
    assert "pairs by 100 pixels" in title(rule) and rule["list_source"] == "made from the masks"
    (place,) = folder.glob("hsnet_quick-*")
    assert [episode["query"] for episode in lines(place)] != names
    assert "hsnet (contiguous folds, pairs by 100 pixels)" in str(table([place]))
    (tmp_path / "val_fold0.txt").unlink()  # a replay needs no list
    again = score(read_config(path), ("dcama",), manifest=folder / "dcama_quick/episodes.jsonl")
    assert again[0]["per_seed"] == two["per_seed"] and "list" not in title(again[0])


def test_missing_photos_are_one_warning_and_a_mark(listed, capfd: pytest.CaptureFixture) -> None:
    path, _ = listed("lost 1\n")
    result = score(read_config(path), ("hsnet", "dcama"))[0]
    told = [line for line in "".join(capfd.readouterr()).splitlines() if "is not used" in line]
    assert len(told) == 1 and "1 of its" in told[0] and result["list_note"] in told[0]
    assert "pairs by 100 pixels" in title(result)
