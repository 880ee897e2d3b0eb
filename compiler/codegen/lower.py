"""TIR functions to object files through TVM's passes and LLVM, as plain C functions: no packed calls, no runtime."""

from __future__ import annotations

import hashlib
import tempfile
from functools import lru_cache
from pathlib import Path

import tvm
from tvm import s_tir, tirx
from tvm_ffi import StructuralKey

from targets.kernels.stage import LLVM, Stage, structure
from targets.microcontroller import Microcontroller
from targets.target import Target

from .cache import cached


def source(stage: Stage, target: Target) -> str:
    """The kernel's TIR as text, and the target: equal texts give equal code."""
    if stage.text is None:
        stage.text = _text(structure(stage.func))
    # on a microcontroller the whole loop is one call, so how long it is belongs to the kernel
    return f"{target}\0{stage.text}" + (f"\0{stage.tasks}" if isinstance(target, Microcontroller) else "")


@lru_cache(1024)
def _text(func: StructuralKey) -> str:
    return func.key.script(show_meta=False)


def symbol(stage: Stage, target: Target) -> str:
    """The kernel's name in its object: equal kernels share it, different ones never do."""
    return "k_" + hashlib.sha256(source(stage, target).encode()).hexdigest()[:20]


def whole(stage: Stage) -> tirx.PrimFunc:
    """The kernel of all of a stage's iterations, without parameters for begin, end and dims: shapes are static."""
    *_, begin, end = stage.func.params
    assert not stage.dims and isinstance(stage.tasks, int), f"{stage.kernel} has open dimensions"
    return stage.func.specialize({begin: tirx.const(0, "int64"), end: tirx.const(stage.tasks, "int64")})


def lower(func: tirx.PrimFunc, name: str, target: Target) -> tvm.IRModule:
    """TIR with loops and buffers -> TIR that LLVM's code generator takes."""
    T, S = tirx.transform, s_tir.transform
    mod = tvm.IRModule({name: func.with_attr("global_symbol", name)})
    passes = [
        T.BindTarget(tvm.target.Target(target.tvm())),
        T.FlattenBuffer(),
        T.BF16ComputeLegalize(),
        T.FP8ComputeLegalize(),
        T.NarrowDataType(32),
        T.VectorizeLoop(True),
        T.StorageRewrite(),
        T.UnrollLoop(),
        S.RenormalizeSplitPattern(),
        T.StmtSimplify(),
        T.RemoveNoOp(),
        S.RewriteUnsafeSelect(),
        T.CommonSubexprElim(),
        T.FP8StorageLegalize(),
        T.BF16StorageLegalize(),
        T.LowerIntrin(),
    ]
    return _with_llvm(tvm.ir.transform.Sequential(passes)(mod), name)


def _with_llvm(mod: tvm.IRModule, name: str) -> tvm.IRModule:
    """The module with the LLVM IR that a kernel brings; after the passes, some of which stumble over it."""
    func = mod[name]
    text = (func.attrs or {}).get(LLVM)
    if text is None:
        return mod
    body = tirx.AttrStmt(tirx.const(0, "int32"), "pragma_import_llvm", tvm.ir.StringImm(text), func.body)
    mod[name] = tirx.PrimFunc(func.params, body, func.ret_type, attrs=func.attrs).without_attr(LLVM)
    return mod


def compile_object(stage: Stage, target: Target) -> bytes:
    """The object file of one kernel, whose only global symbol is `symbol(stage, target)`. Cached."""

    def make() -> bytes:
        func = whole(stage) if isinstance(target, Microcontroller) else stage.func
        lowered = lower(func, symbol(stage, target), target)
        # LLVM dies of a bfloat16 that legalisation passed over (one inside a bound value, say)
        if "bfloat16" in source(stage, target) and "bfloat16" in lowered.script():
            raise tvm.error.InternalError("bfloat16 inside a bound value")
        spec = tvm.target.Target(target.tvm())
        module = tvm.get_global_func("target.build.llvm")(lowered, spec)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "k.o"
            module.write_to_file(str(path), "o")
            return path.read_bytes()

    return cached("kernel", source(stage, target), make)
