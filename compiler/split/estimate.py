"""What a run takes, split or not: bytes alive at its fullest and multiply-accumulates, without lowering anything."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import onnx_ir as ir

from compiler.frontend.nodes import make_node, op_domain, op_version
from compiler.fusion import Group, kind_of
from compiler.memory.request import align
from compiler.ops.registry import Custom, find
from compiler.passes.edit import Edit
from compiler.program import Program
from targets.dtypes import item_size
from targets.kernels.attention_integer import BLOCK, FEW_HEADS
from targets.kernels.tensor import Tensor, product

from .regions import Region, Regions, Rows, rows_axis

SAMPLES = 6  # bands to look at of a region that has more of them


class Estimate:
    """Bytes and MACs of a graph's kernels in the order they stand in.

    What the caller owns (inputs and outputs) takes nothing; a view, a band of rows and a joined result neither.
    """

    def __init__(self, edit: Edit, groups: Sequence[Group], regions: Regions, program: Program | None = None) -> None:
        self.edit, self.groups, self.regions = edit, groups, regions
        graph, facts = edit.graph, edit.facts
        self._io = {str(v.name) for v in graph.inputs}
        self._root: dict[str, str] = {}
        for group in groups:
            node = group.nodes[0]
            if len(group.nodes) == 1 and kind_of(node, facts) == "view" and node.inputs[0] is not None:
                shown, source = str(node.outputs[0].name), str(node.inputs[0].name)
                self._root[shown] = self._root.get(source, source)
        self._io |= {self._root.get(str(v.name), str(v.name)) for v in graph.outputs}
        self._shown: dict[str, list[str]] = {}  # the views of a value
        for shown, source in self._root.items():
            self._shown.setdefault(source, []).append(shown)
        self._lives: dict[str, tuple[int, int]] = {}
        for name, at in regions.home.items():
            root = self._root.get(name, name)
            first, last = self._lives.get(root, (at, at))
            self._lives[root] = (first, max(last, regions.last.get(name, at)))
        self._scratch = _scratch(groups, program)
        self._macs = [{id(n): self._node_macs(n) for n in group.nodes} for group in groups]
        self.macs = sum(sum(macs.values()) for macs in self._macs)
        self.plain = [self._plain(k) for k in range(len(groups))]

    def bytes(self, name: str) -> int:
        """Bytes of a whole value in the arena."""
        if name in self._io or name in self.edit.facts.constants or self._root.get(name, name) != name:
            return 0
        fact = self.edit.facts.values[name]
        size = product(fact.shape)
        return align(size * item_size(fact.dtype)) if isinstance(size, int) else 0

    def whole(self, value: ir.Value) -> int:
        """Bytes of a value that is there whole, whoever owns it."""
        size = product(self.edit.shape(value))
        return align(size * item_size(self.edit.dtype(value))) if isinstance(size, int) else 0

    def _plain(self, k: int) -> int:
        """Bytes alive while kernel `k` runs whole; a result of its own takes the place of an operand that dies."""
        live = sum(self.bytes(name) for name, (first, last) in self._lives.items() if first <= k <= last)
        live += self._scratch[k]
        group = self.groups[k]
        made = self.bytes(group.outputs[0]) if len(group.outputs) == 1 else 0
        for node in group.nodes[group.anchor :]:
            if made and kind_of(node, self.edit.facts) == "elementwise":
                for value in node.inputs:
                    name = "" if value is None else self._root.get(str(value.name), str(value.name))
                    dies = name in self._lives and self._lives[name][1] == k and self._lives[name][0] < k
                    if dies and self.bytes(name) == made:
                        return live - made
        return live

    def region(self, region: Region, count: int) -> tuple[int, int] | None:
        """Bytes alive at the fullest with `region` in `count` bands, and MACs beyond those of the whole; None: no."""
        bands = region.bands(count)
        # those in the middle are alike: a few stand for them all
        some = bands if count <= SAMPLES else [bands[i] for i in (0, 1, count // 2, -2, -1)]
        peak, macs, rows = 0, 0, 0
        for band in some:
            needed = region.ranges(*band)
            if needed is None:
                return None
            peak = max(peak, self._band(region, needed))
            share = self._band_macs(region, needed)
            weight = count - len(some) + 1 if band == bands[count // 2] else 1
            macs, rows = macs + share * weight, rows + (band[1] - band[0]) * weight
        if region.heads:  # their results lie apart until they are joined
            peak = max(peak + self.whole(region.exit), self.whole(region.exit))
        whole = sum(sum(self._macs[k].values()) for k in range(region.start, region.stop))
        return self.outside(region) + peak, max(0, round(macs * region.size / rows) - whole)

    def outside(self, region: Region) -> int:
        """Bytes that no number of bands saves: what lives through `region`, what comes in, and its result."""
        names = (name for name, (first, last) in self._lives.items() if first < region.start <= last)
        result = 0 if self._overwritten(region) else self.bytes(str(region.exit.name))
        return sum(self.bytes(name) for name in names) + result

    def _overwritten(self, region: Region) -> bool:
        """Whether the exit's rows can take the place of those of a value they are made from (compiler/overlay.py)."""
        exit = str(region.exit.name)
        fact, needed = self.edit.facts.values[exit], None if region.heads else region.ranges(0, 1)
        if needed is None or not self.bytes(exit):
            return False
        for name, (_, last) in self._lives.items():
            shown = [v for v in (name, *self._shown.get(name, ())) if v in region.axes and v != exit]
            if not shown or last >= region.stop or self.regions.home.get(name, -1) >= region.start:
                continue
            if self._read_as_exit_is_made(region, {name, *self._shown.get(name, ())}):
                continue
            alike = self.bytes(name) == self.bytes(exit) and self.edit.facts.values[name].dtype == fact.dtype
            if alike and all(needed.get(v) == (0, 1) and self._rows(v, region) == region.size for v in shown):
                return True
        return False

    def _read_as_exit_is_made(self, region: Region, names: set[str]) -> bool:
        """Whether the sums of the kernel that stores the exit read one of `names`: their rows are then still needed."""
        group = self.groups[region.stop - 1]
        return any(v is not None and v.name in names for node in group.nodes[: group.anchor] for v in node.inputs)

    def _rows(self, name: str, region: Region) -> object:
        return self.edit.facts.values[name].shape[region.axes[name]]

    def _band(self, region: Region, needed: dict[str, Rows]) -> int:
        """The most bytes alive within one band, beside what is outside."""
        cuts = self._cuts(region, needed)
        change = [0] * (region.stop - region.start + 1)
        for k in range(region.start, region.stop):
            cuts[k] = cuts.get(k, 0) + self._band_scratch(region, k, needed)
        for k in range(region.start, region.stop):
            for name in self.groups[k].outputs:
                if name != region.exit.name and self.bytes(name):
                    size = self._part(name, region.axes[name], needed[name])
                    change[k - region.start] += size
                    change[self._end(name, region) - region.start + 1] -= size
        live = accumulate(change)
        return max(alive + cuts.get(region.start + i, 0) for i, alive in enumerate(live))

    def _band_scratch(self, region: Region, k: int, needed: dict[str, Rows]) -> int:
        """Scratch space that kernel `k` takes for its rows: as large a share of it as of the rows.

        Integer attention has some for each task; few heads are given several tasks, as far as there are queries.
        """
        node, whole = self.groups[k].nodes[0], self._scratch[k]
        if not whole:
            return 0
        name = str(node.outputs[0].name)
        low, high = needed[name]
        rows = self.edit.shape(node.outputs[0])[region.axes[name]]
        assert isinstance(rows, int)
        if node.op_type == "IntegerAttention" and self.edit.attr(node, "lean", 0):
            return whole
        if node.op_type == "IntegerAttention" and self.edit.attr(node, "num_heads"):
            heads = int(self.edit.attr(node, "num_heads"))
            queries = int(self.edit.shape(node.outputs[0])[1])
            before = _tasks(heads, queries)
            after = _tasks(heads * (high - low) // rows, queries) if region.heads else _tasks(heads, high - low)
            return align(-(-whole * after // before))
        return align(-(-whole * (high - low) // rows))

    def _end(self, name: str, region: Region) -> int:
        """The last kernel of the region that reads `name` or a view of it."""
        shown = self._shown.get(self._root.get(name, name), ())
        return max(self.regions.last[v] for v in (name, *shown) if self.regions.last[v] < region.stop)

    def _part(self, name: str, axis: int, rows: Rows) -> int:
        whole = self.edit.shape(self._value(name))[axis]
        assert isinstance(whole, int)
        return align(-(-self.bytes(name) * (rows[1] - rows[0]) // whole))

    def _value(self, name: str) -> ir.Value:
        group = self.groups[self.regions.home[name]]
        return next(v for n in group.nodes for v in n.outputs if v.name == name)

    def _cuts(self, region: Region, needed: dict[str, Rows]) -> dict[int, int]:
        """Bytes of rows that an anchor needs copied, as they lie apart in what they come from; by kernel."""
        found: dict[int, int] = {}
        for k in range(region.start, region.stop):
            group = self.groups[k]
            if not group.anchor:
                continue
            for value in group.nodes[0].inputs:
                name = "" if value is None else str(value.name)
                if value is None or name in self.edit.facts.constants or name not in region.axes:
                    continue
                if region.start <= self.regions.home.get(name, -1):
                    continue
                shape = self.edit.shape(value)
                if rows_axis(shape) != region.axes[name]:
                    share = (needed[name][1] - needed[name][0]) / int(shape[region.axes[name]])
                    size = int(product(shape)) * item_size(self.edit.dtype(value))
                    found[k] = found.get(k, 0) + align(int(size * share))
        return found

    def _band_macs(self, region: Region, needed: dict[str, Rows]) -> int:
        total = 0.0
        for k in range(region.start, region.stop):
            for node in self.groups[k].nodes:
                if macs := self._macs[k][id(node)]:
                    name = str(node.outputs[0].name)
                    low, high = needed[name]
                    total += macs * (high - low) / int(self.edit.shape(node.outputs[0])[region.axes[name]])
        return round(total)

    def _node_macs(self, node: ir.Node) -> int:
        """Multiply-accumulates of the sums that a node takes; 0 for what is cheaper, or not known in numbers."""
        facts = self.edit.facts
        definition = find(op_domain(node), node.op_type, op_version(node, facts))
        if definition is None or definition.kind != "anchor":
            return 0

        def leaf(name: str) -> Tensor:
            fact = facts.values[name]
            return Tensor(tuple(fact.shape), fact.dtype, name)

        made = definition.lower(make_node(node, facts, leaf))
        results = [] if isinstance(made, Custom) else [made] if isinstance(made, Tensor) else list(made)
        return sum(_sums(t) for t in results if t is not None)


def _tasks(heads: int, queries: int) -> int:
    """How many tasks targets/kernels/attention_integer.py makes of so many heads and queries."""
    return heads * min(-(-FEW_HEADS // heads), -(-queries // BLOCK))


def _scratch(groups: Sequence[Group], program: Program | None) -> list[int]:
    """Bytes of scratch space of each kernel where it runs whole."""
    taken: dict[str, dict[int, int]] = {}
    for step in program.steps if program else []:
        for buffer in step.buffers:
            if buffer.space == "arena" and buffer.name.startswith("scratch."):
                taken.setdefault(step.nodes[0] if step.nodes else "", {})[id(buffer)] = align(buffer.bytes)
    return [sum(taken.get(g.nodes[0].name or g.nodes[0].op_type, {}).values()) for g in groups]


def _sums(t: Tensor) -> int:
    if t.reduction is None:
        return sum(_sums(source) for source in t.inputs)
    total = product([*t.shape, *t.reduction.extents])
    return total if t.reduction.kind == "sum" and isinstance(total, int) else 0
