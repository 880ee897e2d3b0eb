"""Reads an ONNX model and refuses what is none. Weights stay on disk: inline and external ones are mapped when read."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from targets.errors import EdgertError

from . import wire
from .checks import check_model, check_versions
from .mapped import MappedFile, mapped_tensor, renamed
from .tensors import Files, byte_count, check_inline, element_count, external_tensor

MOST_TEXT = 500  # characters of an error
logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # what it warns about is refused here, in one line


def read_model(path: Path | str | ir.Model) -> ir.Model:
    """The model at `path`, or a copy of one in memory (inference changes it). Value names are unique in all of it.

    Raises EdgertError for what is not a well-formed model (one line: what, and what to do), UnsupportedModel for one of
    a version this compiler does not know.
    """
    if isinstance(path, ir.Model):
        return _plain(path.clone())
    path = Path(path)
    try:
        return _read(path)
    except EdgertError as error:
        text = " ".join(str(error).split())  # names in a damaged model may hold anything, line ends too
        raise type(error)(f"{path.name}: {text[:MOST_TEXT]}") from error
    except OSError as error:
        raise EdgertError(f"{path}: {error.strerror or error}") from error


def _read(path: Path) -> ir.Model:
    if not path.exists():
        raise EdgertError("no such file")
    if not path.is_file():
        raise EdgertError("is not a file; give the .onnx file itself")
    file = MappedFile(path)
    if file.size == 0:
        raise EdgertError("is empty; export or download it again")
    try:
        skeleton = wire.strip(file.bytes(0, file.size))
        proto = onnx.ModelProto.FromString(skeleton.proto_bytes())
    except (wire.Damaged, DecodeError) as error:
        detail = f" ({error})" if isinstance(error, wire.Damaged) else ""
        raise EdgertError(f"is not an ONNX model, or is cut{detail}; export or download it again") from error
    check_versions(proto)
    ordered = check_model(proto)
    for value in proto.graph.input:
        if value.type.HasField("tensor_type"):
            dims = [d.dim_value for d in value.type.tensor_type.shape.dim if d.HasField("dim_value")]
            element_count(dims, f"input {value.name}")
    files: Files = {path.resolve(): file}
    mapped = {t.name: _mapped(t, skeleton.raw, file, path.parent, files) for t in proto.graph.initializer}
    _check_attributes(proto)
    try:
        model = ir.from_proto(proto)
    except Exception as error:  # onnx_ir's own complaints about protos are of many types
        raise EdgertError(f"is malformed: {str(error).splitlines()[0]}") from error
    assert isinstance(model, ir.Model)
    return _finish(model, mapped, ordered, path.parent, files)


def _mapped(
    proto: onnx.TensorProto, raw: dict[str, tuple[int, int]], file: MappedFile, folder: Path, files: Files
) -> ir.LazyTensor | None:
    """The initializer as a mapped tensor; None where its data is small and stays in the proto."""
    what = f"initializer {proto.name}"
    if proto.data_location == onnx.TensorProto.EXTERNAL:
        return external_tensor(proto, folder, files)
    if proto.name not in raw:
        check_inline(proto, what, None)
        return None
    offset, length = raw[proto.name]
    check_inline(proto, what, length)
    byte_count(proto, what)
    return mapped_tensor(file, offset, length, ir.DataType(proto.data_type), proto.dims, proto.name)


def _check_attributes(proto: onnx.ModelProto) -> None:
    """Checks the tensors that nodes hold, and the initializers of subgraphs."""
    pending = [*proto.graph.node, *(n for f in proto.functions for n in f.node)]
    while pending:
        node = pending.pop()
        for attr in node.attribute:
            tensors = [*([attr.t] if attr.HasField("t") else []), *attr.tensors]
            for graph in [*([attr.g] if attr.HasField("g") else []), *attr.graphs]:
                pending.extend(graph.node)
                tensors.extend(graph.initializer)
            for tensor in tensors:
                if tensor.data_location != onnx.TensorProto.EXTERNAL:
                    check_inline(tensor, f"tensor {tensor.name or attr.name} of node {node.name or node.op_type}", None)


def _finish(
    model: ir.Model, mapped: dict[str, ir.LazyTensor | None], ordered: bool, folder: Path, files: Files
) -> ir.Model:
    graph = model.graph
    for name, tensor in mapped.items():
        if tensor is not None:
            graph.initializers[name].const_value = tensor
    for part in model.graphs():
        _map_external(part, folder, files)
        if not ordered:
            part.sort()
    return _plain(model)


def _plain(model: ir.Model) -> ir.Model:
    """The model with unique names, and with initializers that are no inputs."""
    graph = model.graph
    # Before IR 4 every initializer had to be an input too; later it means a default, and the compiler takes it.
    for value in [v for v in graph.inputs if v.name in graph.initializers]:
        graph.inputs.remove(value)
    _unique_names(graph)
    return model


def _map_external(graph: ir.Graph | ir.Function, folder: Path, files: Files) -> None:
    """Replaces onnx_ir's external tensors, in subgraphs and node attributes, by checked ones."""
    if isinstance(graph, ir.Graph):
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = _checked(value.const_value, folder, files)
    for node in graph:
        for name, attr in list(node.attributes.items()):
            if attr.type == ir.AttributeType.TENSOR and isinstance(attr.value, ir.ExternalTensor):
                node.attributes[name] = ir.AttrTensor(name, _checked(attr.value, folder, files))


def _checked(tensor: ir.ExternalTensor, folder: Path, files: Files) -> ir.LazyTensor:
    proto = onnx.TensorProto(name=tensor.name or "", data_type=int(tensor.dtype), dims=tensor.shape.numpy())
    for key, text in (("location", tensor.location), ("offset", tensor.offset), ("length", tensor.length)):
        if text is not None:
            proto.external_data.add(key=key, value=str(text))
    return external_tensor(proto, folder, files)


def _unique_names(graph: ir.Graph) -> None:
    """Renames values and nodes of subgraphs that are called like others: branches of an If may use the same names."""
    values: set[str] = set()
    nodes: set[str] = set()
    for part in (graph, *graph.subgraphs()):
        held = [*part.inputs, *(v for n in part for v in n.outputs)]
        inputs = {id(v) for v in part.inputs}
        for value in [*held, *(v for v in part.initializers.values() if id(v) not in inputs)]:
            if value.name and value.name in values:
                if value.const_value is not None:  # it takes the value's name, and may belong to somebody else's model
                    value.const_value = renamed(value.const_value, value.name)
                value.name = _free(value.name, values)
            values.add(value.name or "")
        for node in part:
            if node.name and node.name in nodes:
                node.name = _free(node.name, nodes)
            nodes.add(node.name or "")


def _free(name: str, used: set[str]) -> str:
    """A name like `name` that is not used."""
    return next(wish for count in itertools.count(1) if (wish := f"{name}_{count}") not in used)
