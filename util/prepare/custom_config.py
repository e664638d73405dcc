"""The commented YAML files of a user's data set: one for the data, one for the training, and two for each fold."""

from __future__ import annotations

from pathlib import Path

import yaml

from util.config.settings import DataSettings
from util.config.yaml_text import comment, flow
from util.errors import UserError
from util.files import write_atomically

WIDTH = 110  # of a line of YAML

DATA = """\
# {name}: made by `python prepare.py custom`. Edit freely; config/default.yaml explains every key.
data:
  name: {name}
  root: {root}
  images: {images}
  masks: {masks}
  image_suffix: {image_suffix}
  train_list: {train_list}
  test_list: {test_list}
  size: 353               # side of the square input, 16k + 1 (8k + 1 at output stride 8); smaller is faster
  min_pixels: {min_pixels}        # least number of pixels of a class that is present in an image
  exclude_novel: {exclude_novel}     # omit training images that show a novel class
  text: {text}             # `names`: vectors from the names alone, without meaning; others: prepare.py embeddings
  folds: {folds}
  fold_rule: given        # fold_classes lists the novel classes of each fold; all others are its base classes
  fold: 0
{lists}
protocols:
  symnet: {{episodes: 1000}}
"""
TRAINING = """\
# Sym-Net on {name}: a frozen encoder with ImageNet weights, and short stages for a first result on a CPU. Two views of
# each image are encoded once and their maps kept; views: null draws new ones all the time, as published.
base: [../model/symnet.yaml, {name}.yaml]

model:
  base: {{frozen_stages: 5}}
base_stage: {{epochs: 20, optimizers: {{main: {{lr: 2.5e-3}}}}}}
meta_stage:
  epochs: 20
  batch_per: run
  views: 2
  cache_gib: 12
  optimizers: {{main: {{kind: adamw, lr: 5.0e-4}}}}
"""
SPLIT = """\
# Sym-Net on {name}, fold {fold}, EfficientNet-Lite0. Tests: {novel}.
# Expect: not yet measured.
# Launch: sh train.sh split{fold} {name} 1 && sh test.sh split{fold} {name} 1
base: [{name}_symnet.yaml, ../encoder/lite0.yaml]

data: {{fold: {fold}}}
"""
BASELINE = """\
# Training-free prototype baseline on {name}, fold {fold}, EfficientNet-Lite0. Tests: {novel}.
# Launch: MODEL=prototype sh test.sh split{fold} {name} 1
base: [../model/prototype.yaml, ../encoder/lite0_prototype.yaml, {name}.yaml]

data: {{fold: {fold}, text: none}}
"""


def config_texts(folder: Path, data: DataSettings) -> dict[Path, str]:
    """Return the configs of a data set by path, ``<folder>/<name>/...``; nothing is written.

    Raises:
        UserError: a file of that name has other content.
    """
    lists = yaml.safe_dump(
        {"classes": data.classes, "fold_classes": data.fold_classes}, width=WIDTH, default_flow_style=None
    )
    values = {key: flow(value) for key, value in vars(data).items()}
    values["lists"] = "".join(f"  {line}\n" for line in lists.splitlines())
    texts = {f"{data.name}.yaml": DATA.format(**values), f"{data.name}_symnet.yaml": TRAINING.format(name=data.name)}
    for fold, names in enumerate(data.fold_classes or []):
        words = {"name": data.name, "fold": fold, "novel": comment(", ".join(names))}
        texts[f"{data.name}_split{fold}_lite0.yaml"] = SPLIT.format(**words)
        texts[f"{data.name}_split{fold}_prototype_lite0.yaml"] = BASELINE.format(**words)
    out = {folder / data.name / name: text for name, text in texts.items()}
    for path, text in out.items():
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise UserError(f"{path}: exists with other content; remove the folder or choose another --name")
    return out


def write_configs(texts: dict[Path, str]) -> None:
    """Write the files of ``config_texts``."""
    for path, text in texts.items():
        write_atomically(path, text)
