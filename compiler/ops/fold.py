"""Col2Im, CenterCropPad, MaxUnpool: windows put back into images, images cut or padded."""

from __future__ import annotations

from tvm import tirx

from targets.kernels.builder import Builder
from targets.kernels.stage import Stage
from targets.kernels.tensor import Index, Scalar, Tensor, as_expr, compute, product, reduce
from targets.target import Target

from . import mathfn
from .numbers import both, cast, equal, floordiv, floormod, number, wide
from .registry import Custom, Node, Unsupported, op
from .shapes import axis_of


@op("Col2Im", since=18)
def col2im(node: Node) -> Tensor:
    """input [N, C * prod(block), L], image_shape, block_shape -> [N, C, *image]: overlapping blocks are added."""
    x = node.need(0)
    image = [number(d, "image_shape") for d in node.ints(1, "image_shape") or []]
    block = [number(d, "block_shape") for d in node.ints(2, "block_shape") or []]
    rank = len(image)
    if not rank or len(block) != rank:
        raise Unsupported("image_shape and block_shape of different lengths")
    stride, dilation = node.attr("strides") or [1] * rank, node.attr("dilations") or [1] * rank
    pads = node.attr("pads") or [0] * (2 * rank)
    counts = [
        (image[a] + pads[a] + pads[a + rank] - dilation[a] * (block[a] - 1) - 1) // stride[a] + 1 for a in range(rank)
    ]
    size = int(product(block))
    channels = number(x.shape[1], "channels") // size
    acc = wide(x.dtype)

    def body(i: tuple, r: tuple) -> Scalar:
        tests: list[Scalar | bool] = []
        column: Index = as_expr(0, "int64")
        row: Index = i[1]
        for a in range(rank):
            at = as_expr(i[2 + a]) + pads[a] - as_expr(r[a]) * dilation[a]
            tests += [equal(floormod(at, stride[a]), 0)] if stride[a] > 1 else []
            place = as_expr(floordiv(at, stride[a]))
            tests += [place >= 0, place < counts[a]]
            column = column * counts[a] + place
            row = row * block[a] + r[a]
        value = x(i[0], row, column).astype(acc)
        return tirx.if_then_else(both(tests), value, mathfn.const(0, acc))

    return cast(reduce((x.shape[0], channels, *image), acc, block, "sum", body, [x], None, "col2im"), x.dtype)


@op("CenterCropPad", since=18, kind="injective")
def center_crop_pad(node: Node) -> Tensor:
    """Cuts or pads with zeros around the centre; the odd element goes to the end."""
    x = node.need(0)
    wanted = node.ints(1, "shape")
    axes = [axis_of(int(a), x.ndim) for a in node.attr("axes") or range(x.ndim)]
    if wanted is None or len(wanted) != len(axes):
        raise Unsupported("as many sizes as axes are needed")
    shape = list(x.shape)
    shift: dict[int, int] = {}
    for a, goal in zip(axes, wanted, strict=True):
        old, new = number(x.shape[a], "a cut dimension"), number(goal, "shape")
        shape[a] = new
        shift[a] = (old - new) // 2 if old >= new else -((new - old) // 2)

    def fn(*i: Index) -> Scalar:
        place, tests = list(i), []
        for a, by in shift.items():
            place[a] = as_expr(i[a]) + by
            if shape[a] != x.shape[a] and by < 0 or shape[a] > x.shape[a]:
                tests += [place[a] >= 0, place[a] < x.shape[a]]
        value = x(*place)
        return tirx.if_then_else(both(tests), value, mathfn.const(0, x.dtype)) if tests else value

    return compute(shape, x.dtype, fn, [x], "center_crop_pad")


@op("MaxUnpool", since=9)
def max_unpool(node: Node) -> Custom:
    """Puts X's elements at the flat indices I of the image that the pooling had; zero elsewhere.

    With output_shape the image lies at the origin of that larger one.
    """
    x, places = node.need(0), node.need(1)
    rank = x.ndim - 2
    kernel = list(node.attr("kernel_shape"))
    stride, pads = node.attr("strides") or [1] * rank, node.attr("pads") or [0] * (2 * rank)
    image = [*x.shape[:2]]
    for a in range(rank):
        image.append(
            (number(x.shape[a + 2], "a pooled dimension") - 1) * stride[a] + kernel[a] - pads[a] - pads[a + rank]
        )
    wanted = node.ints(2, "output_shape")
    shape = list(wanted) if wanted else image
    total = product(image)
    result = Tensor(tuple(shape), x.dtype, "unpooled")

    def emit(target: Target, results: list[Tensor]) -> list[Stage]:
        clear, put = Builder(f"zero_{x.dtype}"), Builder(f"max_unpool_{x.dtype}")
        with clear:
            flat = clear.arg(results[0], [product(shape)])
            with clear.parallel(product(shape), 8192) as p:
                clear.store(flat, p, mathfn.const(0, x.dtype))
        with put:
            out = put.arg(results[0])
            source = put.arg(x, [product(x.shape)])
            index = put.arg(places, [product(x.shape)])
            with put.parallel(1), put.serial(product(x.shape), "e") as e:
                flat_at = put.let(index[e])
                left: Index = flat_at
                at: list[Index] = []
                for extent in reversed(image[1:]):
                    at.insert(0, floormod(left, extent))
                    left = floordiv(left, extent)
                at.insert(0, left)
                inside = [flat_at >= as_expr(0, "int64"), flat_at < as_expr(total, "int64")]
                inside += [as_expr(i) < as_expr(d) for i, d in zip(at, shape, strict=True)]
                with put.when(both(inside)):
                    put.store(out, at, source[e])
        return [clear.stage(), put.stage()]

    return Custom([result], emit, (x, places))
