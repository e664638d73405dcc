"""A method's needs of an encoder, compared with the offers of the encoder's spec."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from model.encoders.registry import ENCODERS, MODULES, encoders, spec_of
from model.encoders.spec import EncoderSpec
from model.encoders.variant import PREFIX, USUAL, EncoderVariant

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
class Needs:
    """A method's needs of its encoder."""

    stages: tuple[int, ...]  # whose outputs it reads
    blocks: tuple[int, ...] = ()  # inside which it reads maps
    grids: Grids = ANY_GRIDS
    variant: EncoderVariant = USUAL  # changes to the encoder, of which its output stride follows where none is set

    def spec(self, backbone: str) -> EncoderSpec:
        """Return what an encoder offers to the method."""
        return spec_of(backbone, self.variant)

    def strides(self, spec: EncoderSpec) -> list[int]:
        """Return the output strides at which an encoder has what is needed; of fixed grids the only one."""
        strides = spec.strides or (spec.grids[-1],)
        return [stride for stride in strides if self.lacking(spec, stride) is None]

    def lacking(self, spec: EncoderSpec, stride: int) -> str | None:
        """Return what is needed beside what an encoder offers at an output stride; None if that is enough."""
        stages = range(1, len(spec.grids) + 1)
        if not set(self.stages) <= set(stages):
            return f"it needs {in_words(self.stages)}; {spec.title} offers {in_words(stages)}"
        if not set(self.blocks) <= set(spec.blocks):
            offered = f"those of {in_words(spec.blocks)}" if spec.blocks else "none"
            return f"it needs the maps inside {in_words(self.blocks)}; {spec.title} offers {offered}"
        strides = {stage: spec.stride(stage, stride) for stage in stages}
        if self.grids.fit(strides):
            return None
        read = [stage for stage in stages if stage > 1]
        offered = f"{in_words(read)} at strides {listed([strides[stage] for stage in read])}"
        return f"it needs {self.grids.words}; {spec.title} offers {offered}"


def problem_of(backbone: str, needs: Needs, method: str) -> str | None:
    """Return why a method with such needs takes no such encoder, and which it takes; None if it does."""
    if backbone not in MODULES and backbone not in ENCODERS:
        if not backbone.startswith(PREFIX):
            fitting = _fitting(needs)
            near = get_close_matches(backbone, fitting, 1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            return f"is not one of {', '.join(fitting)}, {PREFIX}<name>{hint}"
        from model.encoders.timm_facts import unknown  # which no other encoder needs

        if problem := unknown(backbone):
            return problem
    spec = needs.spec(backbone)
    if needs.strides(spec):
        return None
    examples = [f"{PREFIX}{name}" for name in EXAMPLES if needs.strides(needs.spec(f"{PREFIX}{name}"))]
    lacking = needs.lacking(spec, max(spec.strides, default=spec.grids[-1]))
    other = f"of timm for example {', '.join(examples)}"
    return f"does not go with {method}: {lacking}; it takes {', '.join(_fitting(needs))}, and {other}"


def _fitting(needs: Needs) -> list[str]:
    """Return the names of the encoders, but for timm's, that a method with such needs takes."""
    return [name for name in encoders() if needs.strides(needs.spec(name))]


def stride_problem(output_stride: int | None, needs: Needs, spec: EncoderSpec) -> str | None:
    """Return why an encoder cannot work at an output stride, None for the method's own; None if it can."""
    if len(spec.strides) < 2:
        is_own = output_stride in (None, *spec.strides)
        return None if is_own else f"= {output_stride} does not go with {spec.title}; its grid is fixed: leave it null"
    stride = output_stride or needs.variant.output_stride
    fitting = needs.strides(spec)
    if stride in fitting:
        return None
    lacking = needs.lacking(spec, stride) if stride in spec.strides else f"{spec.title} cannot have {stride}"
    return f"= {output_stride or 'null'}: {lacking}; take {' or '.join(map(str, fitting))}"


def in_words(stages: Sequence[int]) -> str:
    """Return stages as text: ``stage 3``, ``stages 2, 3 and 4``."""
    return f"stages {listed(sorted(stages))}" if len(stages) > 1 else f"stage {stages[0]}"


def listed(numbers: Sequence[int]) -> str:
    """Return numbers as text: ``2, 3 and 4``."""
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}" if first else last
