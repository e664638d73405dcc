"""Keep results small: python docs/results/keep.py RUNS... [--out docs/results/league], of tests with one class.

Of each result below the runs ``<out>/<protocol>_split<fold>_<shot>shot/<run>_seed<seed>`` gets ``result.json`` with the
scores of the prediction and the tested protocol alone, and ``episodes.jsonl`` with a line ``[I, U, pixels]`` for each
episode. Query, class and supports of these stand once, in the ``episodes.jsonl`` above them. Folders of this machine
above ``data``, ``cache`` and ``runs`` are left out.
"""

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from util import cli  # noqa: E402
from util.data.lists.manifest import Manifest, digest_of_rows, read_manifest  # noqa: E402
from util.evaluate.schema import MANIFEST, RESULT, Result, find_results, over_seeds, read_result  # noqa: E402
from util.files.errors import UserError  # noqa: E402
from util.files.writing import write_atomically  # noqa: E402
from util.loop.metrics import FINAL  # noqa: E402
from util.report.manifests import episodes_by_seed  # noqa: E402
from util.report.row import Row  # noqa: E402

SCORES = ("miou", "fb_iou", "per_class")
MACHINE = r"/[\w./-]*/(?=(data|cache|runs|initmodel)\b)"
DRAWN = ("seed", "number", "query", "class", "supports")


def command() -> None:
    """Keep the results that the command line names, and print where."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=HERE / "league")
    options = parser.parse_args()
    for path in find_results(options.runs):
        print(keep(path, options.out))


def keep(path: Path, out: Path) -> Path:
    """Keep a result; return its new folder. UserError: it has several classes, or others there have other episodes."""
    result = read_result(path)
    if result["protocol_settings"]["ways"] > 1:
        raise UserError(f"{path}: has episodes of several classes; copy it as it is")
    folder = out / f"{result['protocol']}_split{result['fold']}_{result['shot']}shot"
    seed = Row(path, result).training_seed
    place = folder / (result["run"] if seed is None else f"{result['run']}_seed{seed}")
    header = read_manifest(path.with_name(MANIFEST)).header
    episodes = [row for rows in episodes_by_seed(Row(path, result)) for row in rows]
    drawn = [{key: row[key] for key in DRAWN} for row in episodes]
    if not (folder / MANIFEST).exists():
        shared = {key: header[key] for key in header if key not in ("weights", "precision", "input_side", "label_side")}
        write(folder / MANIFEST, Manifest(shared, drawn).text())
    elif digest_of_rows(read_manifest(folder / MANIFEST).episodes) != digest_of_rows(drawn):
        raise UserError(f"{path}: has other episodes than {folder / MANIFEST}; name another --out")
    counts = [row["outputs"][FINAL] for row in episodes]
    lines = [{"manifest": "sym-net-manifest/1", **header}, *([i, u, u + b] for i, u, b, _ in counts)]
    write(place / MANIFEST, "".join(packed(line) for line in lines))
    write(place / RESULT, re.sub(MACHINE, "", packed(small(result))))
    return place


def small(result: Result) -> dict:
    """Return a result with the scores of its prediction, and the protocol that was tested, alone."""
    per_seed = [{FINAL: {key: outputs[FINAL][key] for key in SCORES}} for outputs in result["per_seed"]]
    protocols = {result["protocol"]: result["config"]["protocols"][result["protocol"]]}
    config = {**result["config"], "protocols": protocols}
    return {**result, "config": config, "metrics": {}, "per_seed": per_seed, **over_seeds(per_seed)}


def packed(value: object) -> str:
    """Return a value as a line of JSON."""
    return json.dumps(value, separators=(",", ":")) + "\n"


def write(path: Path, text: str) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode())


if __name__ == "__main__":
    cli.main(command)
