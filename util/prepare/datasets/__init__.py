"""The data sets of the field, one recipe each, and the steps that they share."""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING

from util.config.settings import DataSettings

if TYPE_CHECKING:
    from util.prepare.datasets.recipe import Recipe


def recipes() -> dict[str, "Recipe"]:
    """Return the recipes of the modules of this package, by name."""
    found = {}
    for entry in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
        recipe = getattr(importlib.import_module(entry.name), "RECIPE", None)
        if recipe is not None:
            found[recipe.name] = recipe
    return found


def published_sizes(name: str) -> Mapping[str, int]:
    """Return the number of images of each list of a data set when complete, as far as its recipe states them."""
    recipe = recipes().get(name)
    return recipe.sizes if recipe else {}


def prepare_command(data: DataSettings) -> str:
    """Return the command of ``prepare.py`` that makes the folder of a data set, with what it needs."""
    if data.name == "mini":
        return f"python prepare.py mini --out {data.root}"
    recipe = recipes().get(data.name)
    if recipe is not None:
        return f"python prepare.py {data.name} {recipe.usage} --out {data.root}"
    command = f"python prepare.py custom --name {data.name} --out {data.root}"
    return f"{command} --images <DIR> --masks <DIR> --classes <names.txt>"
