"""What a method wants of its encoder (``Wants``), compared with what the encoder's spec offers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from model.encoders.registry import ENCODERS, MODULES, encoders, spec_of
from model.encoders.spec import EncoderSpec
from model.encoders.variant import PREFIX, USUAL, EncoderVariant

LOW, MID, HIGH = 2, 3, 4  # encoder stages whose outputs most methods read: f2, f3, f4
IMAGE = -1  # stands for the image itself among the stages

# Of timm, for messages: convolutions of two kinds, windows and patches.
EXAMPLES = ("resnet50", "tf_efficientnet_lite0", "swin_tiny_patch4_window7_224", "vit_small_patch14_dinov2")


@dataclass(frozen=True)
class Grids:
    """How the grids of stages have to fit together."""

    words: str
    fit: Callable[[Mapping[int, int]], bool]  # of stage -> pixels of a cell


ANY_GRIDS = Grids("", lambda _: True)
ONE_GRID = Grids("stages 3 and 4 on one grid", lambda x: x[3] == x[4])
PYRAMID = Grids("stages 2, 3 and 4 at strides that double", lambda x: 4 * x[2] == 2 * x[3] == x[4])


@dataclass(frozen=True)
class Wants:
    """What a method wants of its encoder: the maps that it reads, how their grids fit, and changes to the encoder."""

    stages: tuple[int, ...] = (LOW, MID, HIGH)  # stages whose outputs it reads; the encoder ends with the deepest
    blocks: bool = False  # whether it also reads the maps inside the stages
    # The stage (or ``IMAGE``) whose output is masked in supports, so that the next stage sees only the object.
    masked_after: int | None = None
    base_learner: bool = False  # whether it has a base learner and reads ``maps.base``
    grids: Grids = ANY_GRIDS
    variant: EncoderVariant = USUAL  # changes to the encoder; its output stride holds where the settings have none

    @property
    def stages_of_blocks(self) -> list[int]:
        """The stages inside which it reads maps."""
        return [stage for stage in self.variant.intermediate if self.blocks and stage <= max(self.stages)]

    def spec(self, backbone: str) -> EncoderSpec:
        """Return what an encoder offers to the method."""
        return spec_of(backbone, self.variant)

    def strides(self, spec: EncoderSpec) -> list[int]:
        """Return the output strides at which an encoder offers what is wanted; of fixed grids the only one."""
        strides = spec.strides or (spec.grids[-1],)
        return [stride for stride in strides if self.lacking(spec, stride) is None]

    def lacking(self, spec: EncoderSpec, stride: int) -> str | None:
        """Return what an encoder lacks at an output stride; None if it offers all that is wanted."""
        stages = range(1, len(spec.grids) + 1)
        if not set(self.stages) <= set(stages):
            return f"it needs {in_words(self.stages)}; {spec.title} offers {in_words(stages)}"
        inside = self.stages_of_blocks
        if not set(inside) <= set(spec.blocks):
            offered = f"those of {in_words(spec.blocks)}" if spec.blocks else "none"
            return f"it needs the maps inside {in_words(inside)}; {spec.title} offers {offered}"
        strides = {stage: spec.stride(stage, stride) for stage in stages}
        if self.grids.fit(strides):
            return None
        read = [stage for stage in stages if stage > 1]
        offered = f"{in_words(read)} at strides {listed([strides[stage] for stage in read])}"
        return f"it needs {self.grids.words}; {spec.title} offers {offered}"


def problem_of(backbone: str, wants: Wants, method: str) -> str | None:
    """Return why a method with such wants takes no such encoder, and which it takes; None if it does."""
    if backbone not in MODULES and backbone not in ENCODERS:
        if not backbone.startswith(PREFIX):
            fitting = _fitting(wants)
            near = get_close_matches(backbone, fitting, 1)
            hint = f"; did you mean '{near[0]}'?" if near else "; names such as lite0 are for net: and NET="
            return f"is not one of {', '.join(fitting)}, {PREFIX}<name>{hint}"
        from model.encoders.timm_facts import unknown  # which no other encoder needs

        if problem := unknown(backbone):
            return problem
    spec = wants.spec(backbone)
    if wants.strides(spec):
        return None
    examples = [f"{PREFIX}{name}" for name in EXAMPLES if wants.strides(wants.spec(f"{PREFIX}{name}"))]
    lacking = wants.lacking(spec, max(spec.strides, default=spec.grids[-1]))
    other = f"of timm for example {', '.join(examples)}"
    return f"does not go with {method}: {lacking}; it takes {', '.join(_fitting(wants))}, and {other}"


def _fitting(wants: Wants) -> list[str]:
    """Return the names of the encoders, but for timm's, that a method with such wants takes."""
    return [name for name in encoders() if wants.strides(wants.spec(name))]


def stride_problem(output_stride: int | None, wants: Wants, spec: EncoderSpec) -> str | None:
    """Return why an encoder cannot work at an output stride, None for the method's own; None if it can."""
    if len(spec.strides) < 2:
        is_own = output_stride in (None, *spec.strides)
        return None if is_own else f"= {output_stride} does not go with {spec.title}; its grid is fixed: leave it null"
    stride = output_stride or wants.variant.output_stride
    fitting = wants.strides(spec)
    if stride in fitting:
        return None
    lacking = wants.lacking(spec, stride) if stride in spec.strides else f"{spec.title} cannot have {stride}"
    return f"= {output_stride or 'null'}: {lacking}; take {' or '.join(map(str, fitting))}"


def in_words(stages: Sequence[int]) -> str:
    """Return stages as text: ``stage 3``, ``stages 2, 3 and 4``."""
    return f"stages {listed(sorted(stages))}" if len(stages) > 1 else f"stage {stages[0]}"


def listed(numbers: Sequence[int]) -> str:
    """Return numbers as text: ``2, 3 and 4``."""
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}" if first else last
