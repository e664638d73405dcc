"""The methods as functions that return their networks, for ``torch.hub``."""

from collections.abc import Callable, Sequence
from functools import partial

from model.contract import FewShotModel
from model.registry import models
from util.config.compose import find_config
from util.config.read import read_config
from util.run.context import make_run_context
from util.run.network import build_model


def networks() -> dict[str, Callable[..., FewShotModel]]:
    """Return a function for each method by its name.

    It returns the network, by fold 0's config, with random weights in evaluation mode; it takes an Episode.
    """

    def network(
        method: str, net: str | None = None, dataset: str = "pascal", overrides: Sequence[str] = ()
    ) -> FewShotModel:
        text = ["data.text=names"] if models()[method].reads_text else []
        config = read_config(find_config("split0", dataset, method, net), [*text, *overrides])
        return build_model(config, make_run_context(config).text_width).eval()

    return {name: partial(network, name) for name in models()}
