"""The command that prepares a data set, for messages about data that are missing."""

from __future__ import annotations

from util.config.settings import DataSettings

# Commands that prepare the built-in data sets; other data sets are made by `custom`.
PREPARE = {
    "pascal": "python prepare.py pascal --voc <VOCdevkit/VOC2012> --sbd <benchmark_RELEASE> --out {root}",
    "coco": "python prepare.py coco --root <folder of train2014, val2014, annotations> --out {root}",
    **{
        name: f"python prepare.py {name} --root <the unpacked download> --out {{root}}"
        for name in (
            "fss1000",
            "deepglobe",
            "isic",
            "chestxray",
            "suim",
            "lvis92i",
            "isaid5i",
            "pacopart",
            "pascalpart",
        )
    },
    "mini": "python prepare.py mini --out {root}",
}
PREPARE_OTHER = "python prepare.py custom --name {name} --out {root} --images <DIR> --masks <DIR> --classes <names.txt>"


def prepare_command(data: DataSettings) -> str:
    """Return the command that makes the folder of a data set."""
    return PREPARE.get(data.name, PREPARE_OTHER).format(root=data.root, name=data.name)
