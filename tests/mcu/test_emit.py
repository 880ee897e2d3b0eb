"""Libraries and packages: they build with warnings as errors, and give the firmware's answers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import edgert
from edgert.mcu.firmware import machine_flags
from edgert.native.build import zig_cc
from targets.devices.registry import cores

STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
CALLER = """
#include "tiny.h"
static float image[TINY_INPUT_IMAGE_ELEMENTS], classes[TINY_OUTPUT_CLASSES_ELEMENTS];
static uint32_t arena[(TINY_ARENA_BYTES + 3) / 4];
int use(void);
int use(void) {
  tiny_inputs inputs;
  tiny_outputs outputs;
  inputs.image = image;
  outputs.classes = classes;
  return (int)tiny_run(&inputs, &outputs, arena);
}
"""
GCC = {"cortex-m0plus": ["-mcpu=cortex-m0plus", "-mthumb"],
       "cortex-m4": ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]}  # fmt: skip


@pytest.fixture(scope="module", params=["cortex-m0plus", "cortex-m4", "riscv32imac"])
def library(request: pytest.FixtureRequest, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("lib") / "tiny"
    edgert.compile(tiny, folder, target=request.param, emit="lib", golden=False)
    return request.param, folder


@pytest.mark.parametrize("language", ["c99", "c++17"])
def test_the_header_is_clean(language: str, library: tuple[str, Path], tmp_path: Path) -> None:
    core, folder = library
    source = tmp_path / ("use.cpp" if "+" in language else "use.c")
    source.write_text(CALLER)
    zig_cc([*machine_flags(cores()[core]), f"-std={language}", *STRICT, f"-I{folder}", "-c", str(source), "-o",
            str(tmp_path / "use.o")])  # fmt: skip


@pytest.mark.apt
def test_it_links_with_the_systems_compiler(library: tuple[str, Path], tmp_path: Path) -> None:
    core, folder = library
    if shutil.which("arm-none-eabi-gcc") is None or core not in GCC:
        pytest.skip("arm-none-eabi-gcc is not installed, or not for this core")
    source = tmp_path / "use.c"
    source.write_text(CALLER + "int main(void);\nint main(void) { return use(); }\n")
    flags = [*GCC[core], "-std=c99", *STRICT, "-Wl,--gc-sections", "--specs=nosys.specs", f"-I{folder}"]
    out = tmp_path / "use.elf"
    command = ["arm-none-eabi-gcc", *flags, str(source), f"-L{folder}", "-ltiny", "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    symbols = subprocess.run(
        ["arm-none-eabi-nm", str(tmp_path / "use.elf")], capture_output=True, text=True, check=True
    )
    assert " T tiny_run" in symbols.stdout


@pytest.mark.parametrize("emit", ["c", "cmake"])
def test_the_sources_compile(emit: str, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    edgert.compile(tiny, folder, target="cortex-m4", emit=emit, golden=False)
    for source in ("tiny.c", "tiny_weights.c"):
        zig_cc([*machine_flags(cores()["cortex-m4"]), "-std=c99", *STRICT, "-c", str(folder / source), "-o",
                str(tmp_path / "x.o")])  # fmt: skip


@pytest.mark.apt
def test_the_cmake_package_configures_and_builds(tiny: Path, tmp_path: Path) -> None:
    if shutil.which("cmake") is None or shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("cmake or arm-none-eabi-gcc is not installed")
    edgert.compile(tiny, tmp_path / "tiny", target="cortex-m4", emit="cmake", golden=False)
    (tmp_path / "use.c").write_text(CALLER)
    flags = " ".join([*GCC["cortex-m4"], *STRICT, "-std=c99"])
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(app C)\nadd_subdirectory(tiny)\n"
        "add_library(app OBJECT use.c)\ntarget_link_libraries(app PRIVATE tiny)\n"
    )
    settings = {"CMAKE_SYSTEM_NAME": "Generic", "CMAKE_C_COMPILER": "arm-none-eabi-gcc", "CMAKE_C_FLAGS": flags,
                "CMAKE_TRY_COMPILE_TARGET_TYPE": "STATIC_LIBRARY"}  # fmt: skip
    define = [f"-D{key}={value}" for key, value in settings.items()]
    for command in (["cmake", "-S", ".", "-B", "build", *define], ["cmake", "--build", "build"]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "build" / "tiny" / "libtiny.a").is_file()


@pytest.mark.parametrize(("emit", "files"), [
    ("zephyr", ["zephyr/module.yml", "zephyr/CMakeLists.txt", "zephyr/Kconfig", "include/tiny.h", "lib/libtiny.a"]),
    ("arduino", ["library.properties", "src/tiny.h", "src/cortex-m4/libtiny.a", "examples/tiny/tiny.ino"]),
])  # fmt: skip
def test_packages_have_their_parts(emit: str, files: list[str], tiny: Path, tmp_path: Path) -> None:
    edgert.compile(tiny, tmp_path / "tiny", target="cortex-m4", emit=emit, golden=False)
    for file in files:
        assert (tmp_path / "tiny" / file).stat().st_size > 0, file
