"""Random small networks, as hypothesis draws them: images and tokens, branches, joins, several outputs."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.split import random_image as image
from tests.split import random_tokens as tokens
from tests.split.random_graph import Graph, Shape
from tests.split.random_image import Draw, Maker

IMAGE: tuple[Maker, ...] = (
    image.conv,
    image.conv,
    image.conv,
    image.conv,
    image.pool,
    image.simple,
    image.excite,
    image.join,
    image.join,
    image.weighted,
    image.concat,
    image.cut,
    image.halo,
    image.grow,
    image.turn,
    tokens.to_tokens,
    tokens.reduce,
)
TOKENS: tuple[Maker, ...] = (
    tokens.linear,
    tokens.linear,
    tokens.mlp,
    tokens.attend,
    tokens.norm,
    tokens.soft,
    image.simple,
    image.join,
    image.join,
    image.weighted,
    image.concat,
    image.cut,
    image.turn,
    tokens.regroup,
    tokens.to_image,
    tokens.reduce,
)


@st.composite
def graphs(draw: Draw, least: int = 2, most: int = 9) -> Graph:
    """Networks of `least` to `most` such pieces, over an image or over tokens."""
    g = Graph()
    batch = draw(st.sampled_from([1, 1, 1, 2]))
    if draw(st.booleans()):
        shape: Shape = (batch, draw(st.sampled_from([8, 3, 16])), *draw(st.sampled_from([(16, 16), (24, 12), (13, 9)])))
    else:
        shape = (batch, draw(st.sampled_from([32, 64, 24, 7])), draw(st.sampled_from([16, 32, 12])))
    for name in ("x", "z")[: draw(st.sampled_from([1, 1, 1, 2]))]:
        g.inputs.append(name)
        g.shapes[name] = shape
    for _ in range(draw(st.integers(least, most))):
        names = list(g.shapes)[::-1]
        # mostly the newest, so that chains grow; now and then an older one, which is then read again
        x = names[0] if draw(st.integers(0, 2)) else draw(st.sampled_from(names))
        draw(st.sampled_from(IMAGE if len(g.shapes[x]) == 4 else TOKENS))(draw, g, x)
        if draw(st.integers(0, 7)) == 7 and g.nodes:
            g.kept.add(list(g.shapes)[-1])
    if not g.nodes:
        g.like("Relu", ["x"])
    return g
