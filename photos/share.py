"""Share a checkpoint: a folder of weights, config, calibration and model card, the form of repositories of a hub.

The card is ``card.md``, filled from the checkpoint and from the results in the run's folder.
"""

import json
from dataclasses import asdict
from pathlib import Path

import yaml

from model.encoders.registry import title_of
from model.registry import class_of
from photos.calibration import FILE, find_calibration
from util.config.folds import Fold
from util.config.read import from_dict
from util.config.tree import flow
from util.evaluate.schema import NOT_STATED
from util.files.errors import UserError
from util.files.output_folders import made_aside
from util.files.reading import kept_json
from util.files.writing import write_atomically
from util.run.folder import ENVIRONMENT, StageFolder
from util.run.run import Run
from util.run.weights import Loaded
from util.weights import checkpoint
from util.weights.encoders import encoder_data, encoder_licence

CONFIG, CARD = "config.json", "README.md"


def share(weights: Loaded, out: Path) -> None:
    """Write the folder of a checkpoint that was loaded; UserError: it is no file of this project, or ``out`` exists."""
    source = Path(weights.source)
    stored = checkpoint.read(source) if source.is_file() else None
    if stored is None or stored.config is None:
        raise UserError(f"{source}: no checkpoint of this project; share one that train.py wrote")
    if out.exists():
        raise UserError(f"{out}: exists already; name another folder, or remove it")
    run = Run(from_dict(stored.config, weights.source))
    stage = StageFolder(source.parent)
    content = {**stored.entries, "finished": stored.finished or stage.finished}
    calibration = find_calibration(run.config, weights.source, weights.digest)
    with made_aside(out, CARD) as folder:
        checkpoint.save_safetensors(folder / checkpoint.MODEL, content)
        write_atomically(folder / CONFIG, json.dumps(stored.config, indent=2) + "\n")
        if calibration is not None:
            write_atomically(folder / FILE, yaml.safe_dump(asdict(calibration), sort_keys=False))
        write_atomically(folder / CARD, _card(run, stage, weights))


def _card(run: Run, stage: StageFolder, weights: Loaded) -> str:
    config = run.config
    data = config.data
    method = class_of(config.model)
    encoder = title_of(config.model.encoder_name())
    stage_line = "{stage}, epochs {settings[epochs]}, batch {settings[batch]}, side {size} px, seed {seed}"
    template = Path(__file__).with_name("card.md").read_text()
    return template.format(
        data=data,
        name=f"{method.title} on {encoder}" if encoder else method.title,
        dataset=flow(data.name),
        method=flow(method.title),
        classes=", ".join(data.classes[class_id - 1] for class_id in Fold.of(data).base),
        stages="; ".join(stage_line.format_map(training) for training in weights.stored.training),
        commit=_commit(stage),
        encoder_data=encoder_data(weights.network, weights.stored) or NOT_STATED,
        encoder_licence=encoder_licence(weights.network) or NOT_STATED,
    )


def _commit(stage: StageFolder) -> str:
    """Return the commit of the code that trained a stage, and how many files it had changed."""
    environment = kept_json(stage.path / ENVIRONMENT)
    commit = environment.get("commit", NOT_STATED)
    changed = environment.get("changed_files", 0)
    return f"{commit}, with {changed} changed files" if changed else commit
