"""An encoder's specification: the maps that it offers to methods, before it is built."""

from dataclasses import dataclass

from model.encoders.encoder import Encoder
from model.encoders.variant import PLAIN, STAGE_STRIDES, bare_name

# How people write networks of timm, by timm's names without the weights' tag.
TIMM_TITLES = {
    "tf_efficientnet_lite0": "EfficientNet-Lite0",
    "tf_efficientnet_lite1": "EfficientNet-Lite1",
    "tf_efficientnet_lite2": "EfficientNet-Lite2",
    "resnet50": "ResNet-50 of timm",
    "convnext_tiny": "ConvNeXt-T",
    "vit_small_patch14_dinov2": "DINOv2 ViT-S/14",
    "vit_base_patch14_dinov2": "DINOv2 ViT-B/14",
    "vit_large_patch14_dinov2": "DINOv2 ViT-L/14",
    "vit_small_patch14_reg4_dinov2": "DINOv2 ViT-S/14 with registers",
    "vit_base_patch14_reg4_dinov2": "DINOv2 ViT-B/14 with registers",
    "vit_large_patch14_reg4_dinov2": "DINOv2 ViT-L/14 with registers",
    "vit_small_patch16_dinov3": "DINOv3 ViT-S/16",
    "vit_base_patch16_dinov3": "DINOv3 ViT-B/16",
    "vit_large_patch16_dinov3": "DINOv3 ViT-L/16",
}


@dataclass(frozen=True)
class EncoderSpec:
    """The offers of an image encoder, before it is built."""

    title: str  # in tables and messages
    family: type[Encoder]  # the class of the network, which also knows the tensor names in weight files
    stems: tuple[str, ...] = (PLAIN,)  # that it can have
    strides: tuple[int, ...] = ()  # output strides that may be asked for; empty: its grids are fixed
    grids: tuple[int, ...] = tuple(
        STAGE_STRIDES.values()
    )  # strides of stages 1, 2, 3 and 4, at its largest output stride
    blocks: tuple[int, ...] = tuple(STAGE_STRIDES)  # stages inside which it has maps
    rounds_up: bool = True  # whether a side of S pixels gives ceil(S / stride) cells, else floor
    any_size: bool = True  # whether it also takes images of any height and width
    # Whether image sides go by its stride (s k + 1 pixels, at stride 32 s k), else by the rule of the method.
    sides_by_stride: bool = False
    sides: tuple[int, ...] | None = None  # the only image sides that it takes; None for all
    torchvision: str | None = None  # torchvision's name of its ImageNet weights; None if there are none
    without_norms: "EncoderSpec | None" = None  # what it offers to methods that leave out its batch norms

    @property
    def patch(self) -> int | None:
        """The side in pixels of the patches, where all stages have one grid of them; None for others."""
        return self.grids[0] if len(set(self.grids)) == 1 else None

    def stride(self, stage: int, output_stride: int) -> int:
        """Return the stride of a stage, 1..4, at an output stride, which fixed grids do not depend on."""
        own = self.grids[stage - 1]
        return min(own, output_stride) if self.strides else own

    def cells(self, size: int, stage: int, output_stride: int) -> int:
        """Return the side of a stage's grid for an image of ``size`` pixels at an output stride."""
        stride = self.stride(stage, output_stride)
        return -(-size // stride) if self.rounds_up else size // stride


def timm_title(backbone: str) -> str:
    """Return how people write a network of timm, ``timm/<name>``."""
    name = bare_name(backbone)
    return TIMM_TITLES.get(name.partition(".")[0], name)
