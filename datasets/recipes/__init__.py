"""The data sets of the field, one recipe each, and the steps that they share."""

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets.recipes.recipe import Recipe


def recipes() -> dict[str, "Recipe"]:
    """Return the recipes of the modules of this package, by name."""
    found = {}
    for entry in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
        recipe = getattr(importlib.import_module(entry.name), "RECIPE", None)
        if recipe is not None:
            found[recipe.name] = recipe
    return found
