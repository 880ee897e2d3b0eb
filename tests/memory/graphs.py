"""Graphs to order: of the shapes that networks have, and bytes alive counted without any code of the search."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from compiler.memory import Aliases
from compiler.memory.order import Node


@dataclass
class Case:
    """What `order` takes."""

    nodes: list[Node[int]]
    sizes: dict[int, int]
    kept: set[int] = field(default_factory=set)
    initial: set[int] = field(default_factory=set)
    aliases: Aliases[int] = field(default_factory=Aliases)
    together: list[int] | None = None


def bytes_alive(case: Case, order: Sequence[int]) -> int:
    """The peak of an order by the definition: a root is alive from its first writer to the last node that touches it,
    from the start if it is there at the start, to the end if it is kept; a node has its scratch besides. A result over
    an input costs nothing in the node that writes it, if the input dies there and the result is new.
    """

    def touched(index: int, kinds: str = "rw") -> set[int]:
        node = case.nodes[index]
        return {case.aliases.find(b)[0] for b in [*(node.reads if "r" in kinds else ()), *node.writes]}

    size: dict[int, int] = {}
    for b in {b for n in case.nodes for b in [*n.reads, *n.writes]}:
        root, at = case.aliases.find(b)
        size[root] = max(size.get(root, 0), at + case.sizes[b])
    initial = {case.aliases.find(b)[0] for b in case.initial} & set(size)
    kept = {case.aliases.find(b)[0] for b in case.kept}
    spans = {}
    for root in size:
        first = -1 if root in initial else min(i for i, n in enumerate(order) if root in touched(n, "w"))
        spans[root] = (first, len(order) if root in kept else max(i for i, n in enumerate(order) if root in touched(n)))
    peak = sum(size[root] for root in initial)
    for i, n in enumerate(order):
        live = case.nodes[n].scratch + sum(size[root] for root, (first, last) in spans.items() if first <= i <= last)
        used: set[int] = set()
        for pair in case.nodes[n].over:
            a, b = (case.aliases.find(x)[0] for x in pair)
            if spans[a][1] == i and spans[b][0] == i and not used & {a, b}:
                used |= {a, b}
                live -= size[b]
        peak = max(peak, live)
    return peak


class Net:
    """Builds a graph layer by layer; the given order is that of the calls."""

    def __init__(self) -> None:
        self.case = Case([], {})

    def add(self, size: int, *inputs: int, scratch: int = 0) -> int:
        """A node that reads other nodes' results and makes one of `size` bytes."""
        made = len(self.case.nodes)
        self.case.nodes.append(Node(inputs, [made], scratch))
        self.case.sizes[made] = size
        return made

    def chain(self, start: int, *sizes: int) -> int:
        """Nodes one after the other."""
        for size in sizes:
            start = self.add(size, start)
        return start


def inception(blocks: int = 9) -> Case:
    """Four branches into one concatenation, several times."""
    net = Net()
    x = net.add(640)
    for _ in range(blocks):
        branches = [net.chain(x, 128), net.chain(x, 96, 208), net.chain(x, 16, 48), net.chain(x, 640, 64)]
        x = net.add(448, *branches)
    return net.case


def unet(depth: int = 5) -> Case:
    """Down, keeping a skip at each level, and up again."""
    net = Net()
    x, size, skips = net.add(1024), 1024, []
    for _ in range(depth):
        x = net.chain(x, size, size)
        skips.append(x)
        size //= 2
        x = net.add(size, x)
    for skip in reversed(skips):
        size *= 2
        x = net.chain(net.add(2 * size, net.add(size, x), skip), size, size)
    return net.case


def densenet(layers: int = 24) -> Case:
    """Every layer reads all before it."""
    net = Net()
    made = [net.add(256)]
    for _ in range(layers):
        joined = net.add(sum(net.case.sizes[m] for m in made), *made)
        made.append(net.chain(joined, 128, 32))
    net.add(64, *made)
    return net.case


def nas_cells(cells: int = 6) -> Case:
    """DARTS-like cells: four inner nodes, each the sum of two operations on earlier ones, joined at the end."""
    rng, net = random.Random(1), Net()
    a, b = net.add(512), net.add(512)
    for _ in range(cells):
        inner = [net.add(128, a), net.add(128, b)]
        for _ in range(4):
            left, right = (net.chain(x, 256, 128) for x in rng.sample(inner, 2))
            inner.append(net.add(128, left, right))
        a, b = b, net.add(512, *inner[2:])
    return net.case


def pyramid(taps: int = 4) -> Case:
    """A backbone with a tap at every scale, then lateral layers, gates beside the main path, and one concatenation."""
    net = Net()
    x, levels = net.add(3000), []
    for level in range(taps):
        x = net.chain(x, 6400 >> level, 3200 >> level)
        levels.append(x)
    heads: list[int] = []
    for level, tap in enumerate(levels):
        wide = net.add(9600 >> 2 * level, tap)
        gate = net.chain(wide, 4, 1, 4)
        heads.append(net.add(9600 >> 2 * level, wide, gate))
    net.add(9600, *[net.add(2400, head) for head in heads])
    return net.case


def scattered(count: int = 500, seed: int = 0) -> Case:
    """A random graph: every node reads up to three of the 40 before it."""
    rng, net = random.Random(seed), Net()
    for i in range(count):
        near = range(max(0, i - 40), i)
        net.add(64 * rng.randint(1, 40), *rng.sample(near, min(len(near), rng.randint(1, 3))))
    return net.case


def fan(width: int = 300, depth: int = 2) -> Case:
    """Many short branches between two nodes: as many states as there are sets of branches."""
    rng, net = random.Random(2), Net()
    x = net.add(100)
    net.add(10, *[net.chain(x, *[rng.randint(1, 100) for _ in range(depth)]) for _ in range(width)])
    return net.case


GRAPHS: dict[str, Callable[[], Case]] = {
    "inception": inception,
    "unet": unet,
    "densenet": densenet,
    "nas": nas_cells,
    "pyramid": pyramid,
    "scattered": scattered,
    "fan": fan,
}
