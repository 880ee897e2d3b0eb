"""The one header of a compiled model: its tensors, its sizes, its call. C99 and C++."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compiler.codegen.c_names import identifiers
from edgert import __version__, dtypes

# what a tensor's element is in C; types without a name there are their bits
C_TYPES = {
    "bool": "uint8_t", "int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t", "uint16": "uint16_t",
    "int32": "int32_t", "uint32": "uint32_t", "int64": "int64_t", "uint64": "uint64_t", "float32": "float",
}  # fmt: skip

_HEADER = """/* {name}, compiled by edgert {version} for {target}. Generated: do not edit. */
#ifndef {guard}_H
#define {guard}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define {upper}_VERSION {version_text}
#define {upper}_ARENA_BYTES {arena}u /* of RAM for {name}_run, aligned to {upper}_ARENA_ALIGNMENT */
#define {upper}_ARENA_ALIGNMENT {alignment}u
#define {upper}_WEIGHTS_BYTES {weights}u /* of read-only memory, in section .edgert.weights */
{counts}

/* Tensors are the caller's memory, dense, in the order of their dimensions, aligned as their type. An input may lie in
 * the arena, at its OFFSET: it is read there before anything else is written to its place (and gone after the call). */
typedef struct {name}_inputs {{
{inputs}
}} {name}_inputs;

typedef struct {name}_outputs {{
{outputs}
}} {name}_outputs;

/* The weights, which may be placed anywhere that can be read. */
extern const uint8_t {name}_weights[];

/* Runs the model once. Uses the stack, `arena` and nothing else that is written: calls with arenas of their own may
 * overlap. Nothing has to be kept in the arena from one call to the next. Returns 0. */
int32_t {name}_run(const {name}_inputs *inputs, {name}_outputs *outputs, void *arena);

#ifdef __cplusplus
}}
#endif

#endif
"""


def c_type(dtype: str) -> str:
    """The C type of an element."""
    return C_TYPES.get(dtype) or f"uint{8 * dtypes.bits_dtype(dtype).itemsize}_t"


def header(manifest: Mapping[str, Any], name: str, alignment: int) -> str:
    """The header of a model that C calls `name`."""

    def members(ports: list[dict[str, Any]], const: str) -> str:
        names = identifiers(port["name"] for port in ports)
        lines = []
        for port, member in zip(ports, names, strict=True):
            shape = " x ".join(map(str, port["shape"])) or "scalar"
            lines.append(f"  {const}{c_type(port['dtype'])} *{member}; /* {shape}{_quantized(port)} */")
        return "\n".join(lines) or "  char unused;"

    upper = name.upper()
    counts = []
    for kind in ("inputs", "outputs"):
        for port, member in zip(manifest[kind], identifiers(p["name"] for p in manifest[kind]), strict=True):
            elements = port["bytes"] // dtypes.bits_dtype(port["dtype"]).itemsize
            label = f"{upper}_{kind[:-1].upper()}_{member.upper()}"
            counts.append(f"#define {label}_ELEMENTS {elements}u")
            if "offset" in port:
                counts.append(f"#define {label}_OFFSET {port['offset']}u")
    return _HEADER.format(
        name=name, upper=upper, guard=f"EDGERT_{upper}", version=__version__, version_text=f'"{__version__}"',
        target=manifest["target"]["name"], arena=manifest["arena_bytes"], weights=manifest["weights_bytes"],
        alignment=alignment, counts="\n".join(counts),
        inputs=members(manifest["inputs"], "const "), outputs=members(manifest["outputs"], ""),
    )  # fmt: skip


def _quantized(port: Mapping[str, Any]) -> str:
    if "scale" not in port:
        return ""
    return f"; (value - {port.get('zero_point', 0)}) * {port['scale']!r}"
