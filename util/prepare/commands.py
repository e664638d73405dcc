"""The command of ``prepare.py`` that makes a data set, with what it needs."""

from util.config.settings import DataSettings
from util.prepare.datasets import recipes


def prepare_command(data: DataSettings) -> str:
    """Return the command that makes the folder of a data set."""
    if data.name == "mini":
        return f"python prepare.py mini --out {data.root}"
    recipe = recipes().get(data.name)
    if recipe is not None:
        return f"python prepare.py {data.name} {recipe.usage} --out {data.root}"
    command = f"python prepare.py custom --name {data.name} --out {data.root}"
    return f"{command} --images <DIR> --masks <DIR> --classes <names.txt>"
