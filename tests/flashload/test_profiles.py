"""Profiles of devices: what is shipped, what is measured, what planning takes from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import edgert
from edgert.cli import main
from edgert.errors import EdgertError, UsageError
from flashload import named_profiles
from flashload.profile import ASSUMED, FlashProfile
from tests.cli.conftest import Edgert, assert_one_line
from tests.flashload.networks import mlp


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(named_profiles.CHOSEN, raising=False)
    monkeypatch.setenv(named_profiles.CHOSEN, "")  # so that what a command sets is undone
    return tmp_path / "cache"


@pytest.fixture
def command() -> Edgert:
    """`edgert ...` in process: the result with exit_code, stdout, stderr."""
    return lambda *args: CliRunner().invoke(main, [str(arg) for arg in args])


def shipped() -> list[FlashProfile]:
    found = [named_profiles.read(path) for path in sorted(named_profiles.SHIPPED.glob("*.json"))]
    assert {p.name for p in found} >= {"ufs-3.1", "emmc-5.1", "nvme", "sd-uhs-1", "qspi-nor"}
    return found


@pytest.mark.parametrize("profile", shipped(), ids=lambda p: p.name)
def test_shipped_profiles_say_where_they_are_from_and_grow_with_blocks_and_depth(profile: FlashProfile) -> None:
    assert named_profiles.named(profile.name) == profile
    assert profile.source.endswith("not measured.") or "measured" in profile.source
    for table in (profile.sequential, profile.random):
        for (block, depth), rate in table.items():
            assert rate >= max(r for (b, d), r in table.items() if b <= block and d <= depth)
    assert max(profile.random.values()) <= max(profile.sequential.values()) <= profile.dram


def test_seconds_count_whole_reads() -> None:
    profile = FlashProfile("x", {(4096, 1): 1e6, (65536, 1): 8e6, (65536, 4): 16e6}, {(4096, 1): 0.5e6})
    assert profile.seconds(65536 * 10, 65536) == pytest.approx(655360 / 8e6)
    assert profile.seconds(65536 * 10, 65536, depth=5) == pytest.approx(655360 / 16e6)
    assert profile.seconds(40960, 4096) == pytest.approx(40960 / 1e6)
    assert profile.seconds(40960, 4096, random=True) == pytest.approx(40960 / 0.5e6)
    assert profile.seconds(1024, 512) == pytest.approx(2 * 4096 / 1e6)  # two reads, each as long as the smallest
    assert profile.seconds(0, 4096) == 0.0


def test_planning_takes_profiles_by_name() -> None:
    def predicted(profile: FlashProfile | str | None) -> tuple[str, float]:
        with edgert.load(mlp(), dram="64G", profile=profile) as model:
            assert model.memory is not None
            return model.memory.plan.profile, model.memory.plan.first_seconds

    assert predicted(None)[0] == ASSUMED.name
    fast, slow = predicted("nvme"), predicted("sd-uhs-1")
    assert (fast[0], slow[0]) == ("nvme", "sd-uhs-1")
    assert fast[1] < slow[1]
    with pytest.raises(UsageError, match=r"no flash profile 'floppy'; there is emmc-5\.1, .* and any file NAME\.json"):
        edgert.load(mlp(), dram="64G", profile="floppy")


@pytest.mark.parametrize("text", ["", "[]", '{"name": "x", "dram": 1, "sequential": []}',
                                  '{"name": "x", "dram": 1, "sequential": [[1, 1, 0]]}'])  # fmt: skip
def test_files_that_are_no_profiles_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    with pytest.raises(UsageError, match="No such file"):
        named_profiles.named(str(path))
    path.write_text(text)
    with pytest.raises(EdgertError, match=r"bad\.json: is not a flash profile"):
        named_profiles.named(str(path))


def test_a_measurement_is_printed_kept_and_used(command: Edgert, tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    assert_one_line(command("devices", "--profile", "local", "--folder", tmp_path / "none"), 2, "not a folder")
    assert_one_line(command("devices", "--profile", "local", "--size", "9999T"), 2, "free", "--folder")
    assert_one_line(command("devices", "--profile", "local", "--size", "1M"), 2, "too small")
    with pytest.raises(UsageError, match="edgert devices --profile local"):
        named_profiles.named("local")
    result = command("devices", "--profile", "local", "--folder", folder, "--size", "16M", "--json")
    if "choose another --folder" in result.stderr:
        pytest.skip(f"nothing to measure here: {result.stderr.strip()}")
    assert result.exit_code == 0, result.stderr
    assert list(folder.iterdir()) == []
    data = json.loads(result.stdout)
    assert len(data["sequential"]) == 15
    assert len(data["random"]) == 8
    kept = named_profiles.usual()
    assert kept == named_profiles.named("local") == named_profiles.read(cache / "edgert" / "profiles" / "local.json")
    assert named_profiles.to_json(kept) == data
    assert all(rate > 1e5 for rate in (*kept.sequential.values(), *kept.random.values()))  # not zero, not nonsense
    assert kept.dram > 1e8


def test_memory_is_not_measured_for_a_disk(command: Edgert) -> None:
    if not Path("/dev/shm").is_dir():
        pytest.skip("there is no /dev/shm")
    assert_one_line(command("devices", "--profile", "local", "--folder", "/dev/shm"), 2, "lies in memory")


def test_commands_plan_for_the_flash_they_are_told(command: Edgert, tmp_path: Path) -> None:
    def first(*options: str) -> float:
        done = command("inspect", mlp(), "--dram", "1G", *options)
        assert done.exit_code == 0, done.stderr
        assert "stay in memory" in done.stdout
        return named_profiles.usual().seconds(1 << 20, 1 << 18)

    assert first("--flash-profile", "nvme") < first("--flash-profile", "emmc-5.1")
    assert named_profiles.usual().name == "emmc-5.1"
    assert_one_line(command("inspect", mlp(), "--dram", "1G", "--flash-profile", "floppy"), 2, "'floppy'", "emmc-5.1")
