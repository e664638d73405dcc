"""Sym-Net+ from nothing to a table: draw a data set, train both stages, test beside two baselines, find an object."""

from util import requirements

if __name__ == "__main__":
    requirements.check()

import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from util import cli
from util.config.command_line import add_overrides
from util.config.compose import find_config
from util.config.read import read_config, to_dict
from util.config.settings import Config
from util.config.tree import override
from util.data.lists.listed import MASK_SUFFIX, list_of
from util.data.mini import generate
from util.evaluate.evaluate import evaluate
from util.evaluate.passes import ALL_FOREGROUND, FINAL
from util.evaluate.schema import RESULT
from util.files.errors import EXIT_INTERRUPTED
from util.files.mask_images import read_mask
from util.files.progress import ProgressBar
from util.launch import program
from util.report.pictures import draw_episodes
from util.report.table import Table
from util.run.run import BEST, Run
from util.train.stages import train
from util.train.state import Asked

CONFIG = "config/mini/mini_demo.yaml"


def command() -> int:
    """Draw, train, test and predict; print each step; return the exit code."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--folder", type=Path, default="runs/demo", help="the folder of data, runs and the picture")
    add_overrides(parser)
    options = parser.parse_args()
    folder = options.folder
    symnet, untrained, prototype = _configs(folder, options.overrides)

    generate(folder / "data", progress=lambda ids: ProgressBar(ids, desc="draw mini", unit="image"))
    print(
        "\n== base stage: the base learner, over a frozen encoder; meta stage: episodes of base classes ==", flush=True
    )
    if train(symnet, Asked(overwrite=True)):
        return EXIT_INTERRUPTED
    print("\n== test on the novel classes ==", flush=True)
    result, result_untrained, result_prototype = map(_result, (symnet, untrained, prototype))
    scores = {
        "Sym-Net+": result["mean"][FINAL],
        "Sym-Net+, meta output alone": result["mean"]["meta"],
        "untrained Sym-Net+": result_untrained["mean"][FINAL],
        "prototype baseline": result_prototype["mean"][FINAL],
        "everything foreground": result["mean"][ALL_FOREGROUND],
    }
    rows = [[title, f"{score['miou']:.1f}", f"{score['fb_iou']:.1f}"] for title, score in scores.items()]
    picture, *_ = draw_episodes(next(Run(symnet).folder("test").rglob(RESULT)), "png")
    shutil.copy(picture, folder / "demo.png")
    names = [symnet.data.classes[int(c) - 1] for c in result["per_seed"][0][FINAL]["per_class"]]
    print(f"\n1-shot, {result['episodes']} episodes of classes never trained on: {', '.join(names)}")
    print(Table([f"mini, fold {symnet.data.fold}", "mIoU %", "FB-IoU %"], rows))
    print(f"\npicture (support, query, truth, prediction): {folder / 'demo.png'}")
    print("\n== one photo, as with your own photos ==", flush=True)
    arguments = _prediction(symnet, folder, names[0])
    print(f"python predict.py {shlex.join(arguments)}", flush=True)
    subprocess.run([sys.executable, *program("predict"), *arguments], check=True)
    return 0


def _result(config: Config) -> dict[str, Any]:
    """Test a config and return its result."""
    (result,) = evaluate(config).values()
    return result


def _configs(folder: Path, overrides: list[str]) -> tuple[Config, Config, Config]:
    """Return the configs of Sym-Net+, of the same untrained, and of the prototype baseline."""
    places = {"run.folder": folder, "data.root": folder / "data", "data.cache": folder / "cache"}
    common = [override(key, str(path)) for key, path in places.items()]
    symnet = read_config(CONFIG, [*common, *overrides, "run.name=symnet"])
    untrained = read_config(CONFIG, [*common, *overrides, "run.name=untrained", "test.checkpoint=none"])
    stride = to_dict(symnet)["model"]["encoder"]["output_stride"]
    same_maps = [override("data.size", symnet.data.size), override("model.encoder.output_stride", stride)]
    without_stages = [text for text in overrides if not text.startswith(("base_stage.", "meta_stage."))]
    baseline = find_config("split0", "mini", "prototype", "lite0")
    prototype = read_config(baseline, [*common, *same_maps, *without_stages, "run.name=prototype"])
    return symnet, untrained, prototype


def _prediction(config: Config, folder: Path, name: str) -> list[str]:
    """Return the arguments of a prediction: a class marked in one test picture, to be found in another."""
    data = config.data
    class_id = data.classes.index(name) + 1
    root = Path(data.root)
    ids = (root / list_of(data, "test")).read_text().split()
    masks = {i: root / data.masks / f"{i}{MASK_SUFFIX}" for i in ids}
    ids_of_class = [i for i in ids if (read_mask(masks[i]) == class_id).any()]
    support, query = (root / data.images / f"{i}{data.image_suffix}" for i in ids_of_class[:2])
    return [
        *("--checkpoint", str(Run(config).folder("meta") / BEST)),
        *("--support", f"{name}={support}:{masks[ids_of_class[0]]}", "--mask-value", str(class_id)),
        *("--query", str(query), "--out", str(folder / "predicted"), "--overwrite"),
    ]


if __name__ == "__main__":
    cli.main(command)
