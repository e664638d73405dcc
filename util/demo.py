"""Sym-Net from nothing to a table: draw a data set, train both stages, test beside two baselines, find an object."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from tqdm import tqdm

from util import cli
from util.config.read import Config, read_config
from util.data.images import read_mask
from util.data.mini import generate
from util.engine.evaluation import ALL_FOREGROUND, FINAL
from util.engine.testing import test
from util.engine.training import train_base, train_meta
from util.errors import EXIT_INTERRUPTED, UserError
from util.predict.command import command as predict
from util.report.table import text_table

CONFIG = "config/mini/mini_split{fold}_resnet10.yaml"
BASELINE = "config/mini/mini_split{fold}_prototype_resnet10.yaml"
PICTURE, PREDICTED = "demo.png", "predicted"


def command() -> int:
    """Parse, build, call."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--fold", type=int, default=0, help="which two of the eight classes are novel")
    parser.add_argument("--folder", default="runs/demo", help="where data, runs and the picture go")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    options = parser.parse_args()
    folder = Path(options.folder)
    try:
        generate(folder / "data", progress=lambda ids: tqdm(ids, desc="draw mini", unit="image"))
    except FileExistsError as error:
        raise UserError(str(error)) from None
    common = [
        f"run.folder={folder}",
        f"data.root={folder / 'data'}",
        f"data.cache={folder / 'cache'}",
        *options.overrides,
    ]

    def config(name: str, template: str = CONFIG, *more: str):
        given = [
            o for o in common if template == CONFIG or not o.startswith("base_stage.")
        ]  # the baseline has no stage
        return read_config(template.format(fold=options.fold), [*given, f"run.name={name}", *more])

    trained = config("symnet")
    print("\n== base stage: encoder and base learner ==", flush=True)
    if train_base(trained, resume=False, overwrite=True):
        return EXIT_INTERRUPTED
    print("\n== meta stage: episodes of base classes ==", flush=True)
    if train_meta(trained, resume=False, overwrite=True):
        return EXIT_INTERRUPTED
    print("\n== test on the novel classes ==", flush=True)
    base = folder / "symnet" / "base" / "best.pth"
    results = {
        "Sym-Net": test(config("symnet"))[0],
        "untrained Sym-Net": test(config("untrained", CONFIG, "test.checkpoint=none"))[0],
        "prototype baseline": test(config("prototype", BASELINE, f"model.encoder.weights={base}"))[0],
    }
    rows = [_row(name, result["mean"][FINAL]) for name, result in results.items()]
    rows.insert(1, _row("Sym-Net, meta output alone", results["Sym-Net"]["mean"]["meta"]))
    rows.append(_row("everything foreground", results["Sym-Net"]["mean"][ALL_FOREGROUND]))
    names = ", ".join(trained.data.classes[int(c) - 1] for c in results["Sym-Net"]["per_seed"][0][FINAL]["per_class"])
    picture = next((folder / "symnet" / "test").rglob("episodes.png"))
    shutil.copy(picture, folder / PICTURE)
    print(f"\n1-shot, {results['Sym-Net']['episodes']} episodes of classes never trained on: {names}")
    print(text_table(["mini, fold " + str(options.fold), "mIoU %", "FB-IoU %"], rows))
    print(f"\npicture (support, query, prediction, truth): {folder / PICTURE}")
    print("\n== one picture, as you would do it with your own ==", flush=True)
    words = _prediction(trained, folder, names.split(", ")[0])
    print(shlex.join(["python", "predict.py", *words]), flush=True)
    predict(words)
    return 0


def _prediction(config: Config, folder: Path, name: str) -> list[str]:
    """Return the words of a command that finds a class in one of its test pictures, marked in another."""
    data = config.data
    class_id = data.classes.index(name) + 1
    root, ids = Path(data.root), (Path(data.root) / data.test_list).read_text().split()
    masks = {i: root / data.masks / f"{i}{data.mask_suffix}" for i in ids}
    showing = [i for i in ids if (read_mask(masks[i]) == class_id).any()]
    support, query = (root / data.images / f"{i}{data.image_suffix}" for i in showing[:2])
    return [
        *("--checkpoint", str(folder / config.run.name / "meta" / "best.pth")),
        *("--support", f"{support}:{masks[showing[0]]}"),
        *("--mask-value", str(class_id), "--name", name),
        *("--query", str(query), "--out", str(folder / PREDICTED), "--overwrite"),
    ]


def _row(name: str, scores: dict) -> list[str]:
    return [name, f"{scores['miou']:.1f}", f"{scores['fb_iou']:.1f}"]


if __name__ == "__main__":
    cli.main(command)
