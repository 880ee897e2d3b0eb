"""NonMaxSuppression."""

from __future__ import annotations

from tvm import tirx

from targets.kernels.builder import Builder
from targets.kernels.stage import Stage, Temp
from targets.kernels.tensor import Index, Scalar, Tensor, as_expr
from targets.target import Target

from .numbers import dim_leaf, number, only
from .registry import Custom, Node, Unsupported, op


@op("NonMaxSuppression", since=10)
def non_max_suppression(node: Node) -> Custom:
    """boxes [B, N, 4], scores [B, C, N] -> [selected, 3] of (batch, class, box), best first in each class.

    Greedy: the best box left is kept, and those that overlap it by more than iou_threshold go. Of equal scores the
    first wins.
    """
    boxes, scores = node.need(0), node.need(1)
    most, overlap, least = node.input(2), node.input(3), node.input(4)
    if boxes.dtype != "float32" or scores.dtype != "float32":
        raise Unsupported(f"boxes of {boxes.dtype}", "float32")
    batch, count, classes = (number(d, "a dimension of the boxes") for d in (*boxes.shape[:2], scores.shape[1]))
    known = node.const(2)
    limit = count if known is None else max(0, min(count, int(known.reshape(-1)[0])))
    limit = 0 if most is None else limit
    assert node.fresh is not None
    selected = node.fresh("selected", max(1, batch * classes * limit))
    result = Tensor((selected, 3), "int64", "selected")
    centred = bool(node.attr("center_point_box", 0))

    def emit(target: Target, results: list[Tensor]) -> list[Stage]:
        b = Builder("non_max_suppression")
        with b, b.parallel(1):
            out = b.arg(results[0], [max(1, batch * classes * limit), 3])
            slot = b.arg(dim_leaf(selected))
            alive = b.arg(Temp((count,), "uint8", "alive"))
            total, picks, best = b.local((1,), "int64"), b.local((1,), "int64"), b.local((1,), "int64")
            b.store(total, 0, as_expr(0, "int64"))
            bound = as_expr(limit, "int64")
            if most is not None:
                bound = b.let(tirx.min(only(most).astype("int64"), bound), "bound")
            with b.serial(batch, "n") as n, b.serial(classes, "c") as c:
                with b.serial(count, "i") as i:
                    good = tirx.const(True, "bool") if least is None else scores(n, c, i) > only(least)
                    b.store(alive, i, tirx.Select(good, as_expr(1, "uint8"), as_expr(0, "uint8")))
                b.store(picks, 0, as_expr(0, "int64"))
                b.store(best, 0, as_expr(0, "int64"))
                with b.loop_while(tirx.all(best[0] >= as_expr(0, "int64"), picks[0] < bound)):
                    _find_best(b, alive, scores, n, c, count, best)
                    with b.when(best[0] >= as_expr(0, "int64")):
                        for k, value in enumerate((n, c, best[0])):
                            b.store(out, (total[0], k), as_expr(value, "int64"))
                        b.store(total, 0, total[0] + 1)
                        b.store(picks, 0, picks[0] + 1)
                        b.store(alive, best[0], as_expr(0, "uint8"))
                        # without a threshold it is 0: any overlap
                        threshold = tirx.const(0, "float32") if overlap is None else only(overlap)
                        with b.serial(count, "i") as i:
                            gone = _overlaps(boxes, n, i, best[0], threshold, centred)
                            with b.when(alive[i] > as_expr(0, "uint8")), b.when(gone):
                                b.store(alive, i, as_expr(0, "uint8"))
            b.store(slot, 0, total[0])
        return [b.stage()]

    return Custom([result], emit, tuple(t for t in node.inputs if t is not None))


def _find_best(b: Builder, alive: tirx.Var, scores: Tensor, n: Index, c: Index, count: int, best: tirx.Var) -> None:
    """best[0]: the first of the highest-scored boxes alive; -1 when there is none."""
    none = as_expr(-1, "int64")
    b.store(best, 0, none)
    with b.serial(count, "i") as i, b.when(alive[i] > as_expr(0, "uint8")):
        at = tirx.max(best[0], as_expr(0, "int64"))
        with b.when(tirx.any(best[0] < as_expr(0, "int64"), scores(n, c, i) > scores(n, c, at))):
            b.store(best, 0, as_expr(i, "int64"))


def _overlaps(boxes: Tensor, n: Index, i: Index, j: Index, threshold: Scalar, centred: bool) -> Scalar:
    """Whether the intersection over union of boxes i and j is above the threshold."""
    (x1, X1, y1, Y1), (x2, X2, y2, Y2) = (_corners(boxes, n, k, centred) for k in (i, j))
    width = tirx.min(X1, X2) - tirx.max(x1, x2)
    height = tirx.min(Y1, Y2) - tirx.max(y1, y2)
    zero = tirx.const(0, "float32")
    area1, area2, both = (X1 - x1) * (Y1 - y1), (X2 - x2) * (Y2 - y2), width * height
    union = area1 + area2 - both
    real = tirx.all(width > zero, height > zero, both > zero, area1 > zero, area2 > zero, union > zero)
    return tirx.all(real, both / union > threshold)


def _corners(boxes: Tensor, n: Index, i: Index, centred: bool) -> tuple[Scalar, Scalar, Scalar, Scalar]:
    """x from, x to, y from, y to."""
    a, b, c, d = (boxes(n, i, k) for k in range(4))
    if centred:
        half = tirx.const(0.5, "float32")
        return a - c * half, a + c * half, b - d * half, b + d * half
    return tirx.min(b, d), tirx.max(b, d), tirx.min(a, c), tirx.max(a, c)
