"""The tilings that are worth measuring for a call, and a kernel with one of them."""

from __future__ import annotations

from targets.kernels.registry import Call, Template, templates_for
from targets.kernels.stage import Stage
from targets.kernels.tensor import Tensor
from targets.target import Target

WORTH = 0.98  # of the time before: a change must pay more than the noise of measuring it
RUNS = 15  # the best of so many counts: the others had company on the machine

Tiles = dict[str, int]


def space_of(call: Call, target: Target) -> tuple[Template | None, list[Tiles]]:
    """The first template for `call` that has a choice of tilings, and these; None and none where no template has."""
    for template in templates_for(call.op, target):
        space = getattr(template, "space", None)
        if space is not None:
            return template, list(space(call, target))
    return None, []


def bare_stages(template: Template, call: Call, config: Tiles, target: Target) -> list[Stage] | None:
    """The call's kernel with those tiles and no tail; None where the template does not take them."""
    result = Tensor(call.outputs[0].shape, call.outputs[0].dtype, "result")
    trial = Call(call.op, call.attrs, call.inputs, call.outputs, call.outputs[0], [result], config)
    try:
        return template(trial, target) or None
    except (ValueError, AssertionError):
        return None
