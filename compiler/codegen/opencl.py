"""TIR functions of work items to OpenCL C, through TVM's code generator.

Every kernel takes its buffers as a base and an offset in bytes: one arena and one buffer of weights then serve all of
them, and a value may begin at any element of another's memory (OpenCL's sub-buffers may not).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import tvm
from tvm import s_tir, tirx

from targets.kernels.stage import Stage
from targets.target import Target

from .cache import cached
from .lower import source, symbol
from .opencl_half import stored_halves
from .opencl_helpers import helpers

# sums in the order in which they are written: the functions of targets/kernels/vmath.py rely on it
HEADER = "#pragma OPENCL FP_CONTRACT OFF\n"


def kernel_source(stage: Stage, target: Target) -> str:
    """The OpenCL C of one kernel, named `symbol(stage, target)`. Cached."""
    return cached("opencl-c", source(stage, target), lambda: _generated(stage, symbol(stage, target)).encode()).decode()


def program_source(stages: Iterable[Stage], target: Target) -> str:
    """One program of every distinct kernel of `stages`."""
    kernels = "\n".join({symbol(stage, target): kernel_source(stage, target) for stage in stages}.values())
    return HEADER + helpers(kernels) + kernels


def _generated(stage: Stage, name: str) -> str:
    text, script = generated(stage, name, "opencl")
    return _with_offsets(exact(text, script), name)


def generated(stage: Stage, name: str, kind: str) -> tuple[str, str]:
    """What TVM's code generator `kind` makes of a kernel, and the TIR that it was made of."""
    T, S = tirx.transform, s_tir.transform
    spec = tvm.target.Target({"kind": kind})
    func = stage.func.with_attr("global_symbol", name).with_attr("target", spec).with_attr("calling_conv", 2)
    func = func.with_attr("tirx.kernel_launch_params", ["blockIdx.x", "threadIdx.x"])
    passes = [
        T.BindTarget(spec), T.FlattenBuffer(), T.NarrowDataType(32), T.VectorizeLoop(True), T.StorageRewrite(),
        T.UnrollLoop(), S.RenormalizeSplitPattern(), T.StmtSimplify(), T.RemoveNoOp(), S.RewriteUnsafeSelect(),
        T.CommonSubexprElim(), T.LowerIntrin(),
    ]  # fmt: skip
    module = tvm.ir.transform.Sequential(passes)(tvm.IRModule({name: func}))
    text = tvm.get_global_func(f"target.build.{kind}")(module, spec).inspect_source()
    return text, module.script(show_meta=False)


def exact(text: str, script: str) -> str:
    """The generated code with its float32 constants in full: TVM prints seven digits of them."""
    known = {}
    for number in re.findall(r"T\.float32\(([-+.\de]+)\)", script):
        value = float(np.float32(number))
        known[f"{value:e}f"] = f"{value.hex()}f"
    return re.sub(r"-?\d\.\d{6}e[+-]\d\d+f", lambda found: known.get(found[0], found[0]), text)


def _with_offsets(text: str, name: str) -> str:
    """The generated kernel, which takes a pointer a buffer, as one that takes a base and an offset a buffer."""
    found = re.search(rf"__kernel void {name}\(([^)]*)\) \{{\n", text)
    assert found, f"no kernel {name} in what TVM generated"
    parameters, pointers = [], []
    for parameter in filter(None, (p.strip() for p in found[1].split(","))):
        kind, _, argument = parameter.rpartition(" ")
        if "*" in kind:
            parameters += [f"__global uchar* restrict {argument}_base", f"long {argument}_at"]
            cast = kind.replace(" restrict", "")
            pointers.append(f"  {kind} {argument} = ({cast})({argument}_base + {argument}_at);\n")
        else:
            parameters.append(parameter)
    halves = [p.rpartition(" ")[2] for p in found[1].split(",") if "half*" in p]
    body = stored_halves(text[found.end() :], halves)
    return f"__kernel void {name}({', '.join(parameters)}) {{\n{''.join(pointers)}{body}"
