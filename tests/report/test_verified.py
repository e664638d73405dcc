"""The page of verified results: it is that of its folder, and a result that is not as its episodes is refused."""

import json
import shutil
from pathlib import Path

import pytest

from tests.helpers.paths import REPOSITORY
from util.files.errors import UserError
from util.report.verified import page, write_page

RESULTS = REPOSITORY / "docs/results"


def test_the_page_is_that_of_the_results() -> None:
    assert (REPOSITORY / "docs/verified.md").read_text() == page(RESULTS), "python report.py page docs/results"


def test_results_that_did_not_pass_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "docs/results"
    first = next(RESULTS.glob("*/result.json")).parent
    copy = folder / first.name
    shutil.copytree(first, copy)
    assert f"results/{first.name}/episodes.jsonl" in write_page(folder).read_text()
    (copy / "verify.txt").write_text("verification failed (code): score the run again\n")
    with pytest.raises(UserError, match=r"verify\.txt: the result did not pass"):
        page(folder)
    (copy / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"config\.yaml: is missing"):
        page(folder)
    result = json.loads((copy / "result.json").read_text())
    result["mean"]["final"]["miou"] += 1
    (copy / "result.json").write_text(json.dumps(result))
    with pytest.raises(UserError, match=r"scores: .*miou"):
        page(folder)
