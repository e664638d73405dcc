"""The command of ``prepare.py`` that makes a data set, with what it needs."""

import pkgutil

from util.config.settings import DataSettings
from util.prepare import datasets

# Of data sets that have a recipe: options beside --out. Others are made by ``prepare.py custom``.
OPTIONS = {module.name: "--root <the unpacked download> " for module in pkgutil.iter_modules(datasets.__path__)}
OPTIONS |= {"pascal": "--voc <VOCdevkit/VOC2012> --sbd <benchmark_RELEASE> ", "mini": ""}
OPTIONS |= {"coco": "--root <folder of train2014, val2014, annotations> "}


def prepare_command(data: DataSettings) -> str:
    """Return the command that makes the folder of a data set."""
    if data.name in OPTIONS:
        return f"python prepare.py {data.name} {OPTIONS[data.name]}--out {data.root}"
    command = f"python prepare.py custom --name {data.name} --out {data.root}"
    return f"{command} --images <DIR> --masks <DIR> --classes <names.txt>"
