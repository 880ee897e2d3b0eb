"""The dictionary of schemes: every entry can be used."""

import pytest

from quant.quantize import resolve, scheme_named
from quant.schemes import SCHEMES, Scheme
from targets.errors import UsageError


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_entry_is_whole(scheme: Scheme) -> None:
    assert SCHEMES[scheme.name] is scheme
    assert callable(resolve(scheme.rewrite))
    assert scheme.about and "\n" not in scheme.about
    blocked = scheme.weights is not None and scheme.weights.dtype in ("int4", "uint4")
    assert scheme.opset >= (21 if blocked else 13)  # DequantizeLinear has 4-bit types and blocks since 21


def test_all_schemes_that_are_promised() -> None:
    weight_only = {f"{sign}int4{group}" for sign in ("", "u") for group in ("", "-g64", "-g128")}
    rest = {"int8", "int8-dynamic", "int16x8", "int4x8", "nf4", "int8-outlier", "codebook", "auto"}
    assert set(SCHEMES) == weight_only | rest


def test_unknown_name_lists_all() -> None:
    with pytest.raises(UsageError, match=r"'int3'.*int8-dynamic.*auto"):
        scheme_named("int3")
