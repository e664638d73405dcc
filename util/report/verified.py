"""The page of verified results, ``docs/verified.md``: a row for each result that somebody added with its episodes."""

from pathlib import Path
from typing import Any

from util.evaluate.schema import MANIFEST, find_results, read_result
from util.evaluate.titles import title
from util.files import read_text, write_atomically
from util.files.errors import UserError
from util.loop.metrics import FINAL
from util.report.rows import row_name
from util.report.table import Table
from util.report.verify import DIFFERS, files_agree

CONFIG, VERDICT = "config.yaml", "verify.txt"  # beside a result: its config, and what report.py verify printed
COLUMNS = ["result", "test", "mIoU %", "FB-IoU %", "config", "commit", "machine", "episodes", "verify"]
INTRODUCTION = """# Verified results

`python report.py page docs/results` makes this page. It counts every score again from the episodes beside the result,
and compares the episodes with the result's digest. *Verify* is what `report.py verify` said about list, draw, code,
weights and training photos, on a machine with data and weights, at the row's commit.

**Add yours** by a pull request: copy `result.json`, `episodes.jsonl` and `config.yaml` to `docs/results/<NAME>`.

```sh
python report.py verify docs/results/<NAME> > docs/results/<NAME>/verify.txt
python report.py page docs/results
```
"""


def write_page(folder: Path) -> Path:
    """Write the page of the results below a folder beside it, and return its path; errors as of ``page``."""
    out = folder.parent / "verified.md"
    write_atomically(out, page(folder))
    return out


def page(folder: Path) -> str:
    """Return the page of the results below a folder, with links relative to the folder above.

    UserError: there is none, or one does not agree with its episodes, or lacks its config or what verify said of it.
    """
    table = Table(COLUMNS, [_row(path, folder.parent) for path in find_results([folder])])
    return f"{INTRODUCTION}\n{table}\n"


def _row(path: Path, root: Path) -> list[str]:
    """Return the cells of a result, as in ``COLUMNS``."""
    result = read_result(path)
    for subject, (outcome, reason) in files_agree(path, result).items():
        if outcome == DIFFERS:
            raise UserError(f"{path}: {subject}: {reason}; add the files of one test as they are")
    config = path.with_name(CONFIG)
    if not config.exists():
        raise UserError(f"{config}: is missing; copy it from the folder of the test")
    place = path.parent.relative_to(root).as_posix()
    scores = result["mean"][FINAL]
    fb_iou = f"{scores['fb_iou']:.2f}" if "fb_iou" in scores else "-"
    environment: dict[str, Any] = result["environment"]
    commit = str(environment.get("commit", ""))[:8]
    episodes = result["episode_digests"][0][:8]
    return [
        f"[{row_name(result)}]({place}/{path.name})",
        title(result),
        f"{scores['miou']:.2f}",
        fb_iou,
        f"[{CONFIG}]({place}/{CONFIG})",
        commit,
        f"{environment.get('machine', '')}, {result['device']}",
        f"[{episodes}]({place}/{MANIFEST})",
        _verdict(path.with_name(VERDICT)),
    ]


def _verdict(path: Path) -> str:
    """Return the last line of what verify said; UserError: it is not there, or is not of a result that passed."""
    fix = f"python report.py verify {path.parent} > {path}"
    last = read_text(path, "this verdict", fix).rstrip().rpartition("\n")[2]
    if not last.startswith(("all checks passed", "scores and episodes agree")):
        raise UserError(f"{path}: the result did not pass ({last}); {fix}")
    return last
