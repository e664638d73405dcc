"""The methods as functions that return their networks, for ``torch.hub``."""

import inspect
from collections.abc import Callable, Sequence

from model.contract import FewShotModel
from model.registry import models
from util.checkpoints import checkpoint
from util.config.compose import config_path
from util.config.read import read_config
from util.errors import UserError
from util.files import REPOSITORY
from util.predict.load_model import SHIPPED, load_model
from util.run.context import make_run_context
from util.run.network import build_model


def networks() -> dict[str, Callable[..., FewShotModel]]:
    """Return a function for each method by its name."""
    return {method: _function(method, model) for method, model in models().items()}


def _function(method: str, model: type[FewShotModel]) -> Callable[..., FewShotModel]:
    def network(
        pretrained: bool = False, net: str | None = None, dataset: str = "pascal", overrides: Sequence[str] = ()
    ) -> FewShotModel:
        """Return a torch.nn.Module in evaluation mode, whose forward takes an Episode (model/episode.py).

        Args:
            pretrained: False for random weights; True for trained ones where this repository has them, and for a
                method that learns nothing those of its encoder.
            net: the encoder, as NET of train.sh.
            dataset: the data set whose config is taken, of fold 0.
            overrides: settings to change, section.key=value. Vectors of class names are made from the names.
        """
        changes = [*(["data.text=names"] if model.reads_text else []), *overrides]
        path = REPOSITORY / config_path("split0", dataset, method, net)
        config = read_config(path, changes)
        if not pretrained:
            return build_model(config, make_run_context(config).text_width).eval()
        if not model.learns:
            return load_model(None, path, changes, device="cpu").network
        has = checkpoint.read(SHIPPED)["config"]["model"]
        if (has["name"], has["encoder"]["backbone"]) != (method, config.model.backbone()):
            raise UserError(
                f"{method} on {config.model.backbone()}: the trained weights here are of {has['name']} on "
                f"{has['encoder']['backbone']}; leave pretrained out, or give segmenter a checkpoint of your own"
            )
        return load_model(SHIPPED, None, overrides, device="cpu").network

    network.__doc__ = f"{inspect.getdoc(inspect.getmodule(model))}\n\n{inspect.getdoc(network)}"
    return network
