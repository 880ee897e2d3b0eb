"""Writes a region of a graph as bands of rows, one after another, and joins their results."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from compiler.frontend.nodes import op_version
from compiler.passes.edit import Edit

from .regions import Region, Rows
from .rules import VIEWS, attributes


def split(edit: Edit, region: Region, count: int) -> None:
    """Replaces `region` by `count` bands and a Concat. Values keep their meaning, the exit gets another name."""
    end = region.nodes[-1]
    parts = [_Band(edit, region, end, band).made() for band in region.bands(count)]
    axis = region.axes[str(region.exit.name)]
    joined = edit.insert(end, "Concat", parts, {"axis": axis}, stem=str(region.exit.name))
    edit.replace(region.exit, joined)


class _Band:
    """One band: copies of the region's nodes that work on the rows it needs."""

    def __init__(self, edit: Edit, region: Region, before: ir.Node, rows: Rows) -> None:
        self.edit, self.region, self.before = edit, region, before
        needed = region.ranges(*rows)
        assert needed is not None
        self.needed = needed
        self.values: dict[str, ir.Value] = {}
        self.cuts: dict[tuple[str, Rows], ir.Value] = {}

    def made(self) -> ir.Value:
        """The exit's rows."""
        for node in self.region.nodes:
            self.values[str(node.outputs[0].name)] = self._copy(node)
        return self.values[str(self.region.exit.name)]

    def _copy(self, node: ir.Node) -> ir.Value:
        edit, rule = self.edit, self.region.rules[id(node)]
        result = str(node.outputs[0].name)
        low, high = self.needed[result]
        rows = rule.rows(low, high)
        assert rows is not None
        inputs = [
            value if value is None or axis is None else self._rows(value, rows, axis)
            for value, axis in zip(node.inputs, rule.axes, strict=True)
        ]
        if not node.domain and node.op_type in VIEWS:
            shape = np.array(edit.shape(node.outputs[0]), np.int64)
            shape[self.region.axes[result]] = high - low
            return edit.insert(self.before, "Reshape", [inputs[0], edit.constant("shape", shape)], stem=result)
        attrs = attributes(edit, node, rule, low, high)
        version = op_version(node, edit.facts)
        return edit.insert(self.before, node.op_type, inputs, attrs, node.domain, stem=result, version=version)

    def _rows(self, value: ir.Value, rows: Rows, axis: int) -> ir.Value:
        """Those rows of a value of the region, or of one that comes in."""
        name = str(value.name)
        source, start = value, 0
        size = self.edit.shape(value)[axis]
        if name in self.values:
            source, start = self.values[name], self.needed[name][0]
            size = self.needed[name][1] - start
        if rows == (start, start + size):
            return source
        if (name, rows) not in self.cuts:
            numbers = [np.array([i], np.int64) for i in (rows[0] - start, rows[1] - start, axis)]
            bounds = [self.edit.constant("rows", n) for n in numbers]
            cut = self.edit.insert(self.before, "Slice", [source, *bounds], stem=f"{name}.rows")
            self.cuts[name, rows] = cut
        return self.cuts[name, rows]
