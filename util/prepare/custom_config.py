"""The commented YAML file of a user's data set, of which the configs of all methods are composed."""

from __future__ import annotations

from pathlib import Path

import yaml

from util.config.settings import DataSettings
from util.config.yaml_text import flow
from util.errors import UserError

WIDTH = 110  # of a line of YAML

DATA = """\
# {name}: made by `python prepare.py custom`. Edit freely; config/default.yaml explains every key.
net: lite0                # the encoder where none is named (NET=resnet50 sh train.sh ...)

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

for:
  # Sym-Net: a frozen encoder with ImageNet weights, and short stages for a first result on a CPU. Two views of each
  # image are encoded once and their maps kept; views: null draws new ones all the time, as published.
  symnet:
    model: {{base: {{frozen_stages: 5}}}}
    base_stage: {{epochs: 20, optimizers: {{main: {{lr: 2.5e-3}}}}}}
    meta_stage:
      epochs: 20
      batch_per: run
      views: 2
      cache_gib: 12
      optimizers: {{main: {{kind: adamw, lr: 5.0e-4}}}}
"""


def config_text(folder: Path, data: DataSettings) -> tuple[Path, str]:
    """Return path and content of the config of a data set, ``<folder>/<name>/<name>.yaml``; nothing is written.

    Raises:
        UserError: the file is there with other content.
    """
    lists = yaml.safe_dump(
        {"classes": data.classes, "fold_classes": data.fold_classes}, width=WIDTH, default_flow_style=None
    )
    values = {key: flow(value) for key, value in vars(data).items()}
    values["lists"] = "".join(f"  {line}\n" for line in lists.splitlines())
    path, text = folder / data.name / f"{data.name}.yaml", DATA.format(**values)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise UserError(f"{path}: exists with other content; remove the folder or choose another --name")
    return path, text
