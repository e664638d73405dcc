"""The commented YAML files of a data set of one's own: one for the data, one for the training, one for each fold."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from util.config.settings import DataSettings
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
  size: 473               # side of the square input, 8k + 1; smaller is faster
  min_pixels: {min_pixels}        # a class is present in an image when it covers so many pixels of its mask
  exclude_novel: {exclude_novel}     # leave out training images that show a novel class
  text: {text}             # `names`: vectors made from the names alone; real ones: prepare.py embeddings
  folds: {folds}
  fold_rule: given        # the classes each fold tests; all others are its base classes
  fold: 0
{lists}
protocols:
  symnet: {{episodes: 1000}}
"""
TRAINING = """\
# Sym-Net on {name}: ImageNet weights with torchvision's stem, downloaded when first needed, and short stages to start.
base: [../model/symnet.yaml, {name}.yaml]

model:
  encoder: {{stem: plain, weights: torchvision}}
base_stage: {{epochs: 50, size: 417}}
meta_stage: {{epochs: 50, augment: {{scale: [0.9, 1.1]}}}}
"""
SPLIT = """\
# Sym-Net on {name}, fold {fold}, ResNet-50. Tests: {novel}.
# Expect: not yet measured.
# Launch: sh train.sh split{fold} {name} 1 && sh test.sh split{fold} {name} 1
base: {name}_symnet.yaml

data: {{fold: {fold}}}
model: {{encoder: {{backbone: resnet50}}}}
"""
BASELINE = """\
# Training-free prototype baseline on {name}, fold {fold}, ResNet-50. Tests: {novel}.
# Launch: MODEL=prototype sh test.sh split{fold} {name} 1
base: [../model/prototype.yaml, {name}.yaml]

data: {{fold: {fold}, text: none}}
model: {{encoder: {{backbone: resnet50, stem: plain, weights: torchvision}}}}
"""


def write_configs(folder: Path, data: DataSettings) -> list[Path]:
    """Write a data set's configs into ``<folder>/<name>``; return their paths. Files that are the same stay.

    Raises:
        UserError: a file with other content is in the way.
    """
    lists = yaml.safe_dump(
        {"classes": data.classes, "fold_classes": data.fold_classes}, width=WIDTH, default_flow_style=None
    )
    values = {
        **vars(data),
        "root": json.dumps(data.root),
        "exclude_novel": str(data.exclude_novel).lower(),
        "lists": "".join(f"  {line}\n" for line in lists.splitlines()),
    }
    texts = {f"{data.name}.yaml": DATA.format(**values), f"{data.name}_symnet.yaml": TRAINING.format(name=data.name)}
    for fold, names in enumerate(data.fold_classes):
        words = {"name": data.name, "fold": fold, "novel": ", ".join(names)}
        texts[f"{data.name}_split{fold}_resnet50.yaml"] = SPLIT.format(**words)
        texts[f"{data.name}_split{fold}_prototype_resnet50.yaml"] = BASELINE.format(**words)
    paths = {folder / data.name / name: text for name, text in texts.items()}
    for path, text in paths.items():
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise UserError(f"{path}: holds something else already; remove the folder or choose another --name")
    for path, text in paths.items():
        write_atomically(path, text)
    return list(paths)
