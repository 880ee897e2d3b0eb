"""A target: the machine code to emit and the few facts about the machine that schedules depend on."""

from __future__ import annotations

from dataclasses import dataclass

# elements: what is smaller takes little memory as float32, and much may hang on it (biases, positions, statistics)
HALF_FROM = 4096


@dataclass(frozen=True)
class Target:
    """One device class. Sizes in bytes; `features` in the names of /proc/cpuinfo's flags."""

    name: str
    triple: str
    cpu: str  # LLVM's -mcpu
    features: tuple[str, ...]  # what the runner checks for before it runs the code
    vector_bytes: int  # width of one SIMD register
    registers: int  # number of SIMD registers
    l1_bytes: int = 32 << 10
    l2_bytes: int = 512 << 10
    family: str = "cpu"  # whose kernel templates are used
    attrs: tuple[str, ...] = ()  # LLVM's -mattr
    dot: str = "portable"  # how int8 products are summed; targets/kernels/dot.py has the ways
    tiles: str = ""  # the matrix unit, where there is one
    half: int = 0  # constants of at least so many elements are float16 (see the families for what else); 0: none are
    base: str = ""  # a target with fewer features whose tuning records hold here too
    pointer_bytes: int = 8
    variant: str = ""  # its name behind a + (targets/several.py); none: its own
    alignment: int = 64  # of buffers: a cache line and an AVX-512 register
    abi: str = ""  # LLVM's -mabi, of RISC-V

    def halves(self, elements: int) -> bool:
        """Whether so many float32 elements are stored as float16."""
        return 0 < self.half <= elements

    @property
    def isa(self) -> str:
        """The last word of the name, as kernels' names end in it."""
        return self.name.split("-")[-1]

    def lanes(self, dtype: str) -> int:
        """How many elements of `dtype` one SIMD register holds."""
        bits = int("".join(c for c in dtype if c.isdigit()) or 8)
        return max(1, self.vector_bytes * 8 // bits)

    def tvm(self) -> dict:
        """The target as TVM takes it."""
        spec: dict = {"kind": "llvm", "mtriple": self.triple, "mcpu": self.cpu}
        if self.attrs:
            spec["mattr"] = list(self.attrs)
        if self.abi:
            spec["mabi"] = self.abi
        return spec
