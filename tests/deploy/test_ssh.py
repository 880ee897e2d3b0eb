"""`edgert deploy` and --device over a real sshd: what arrives is what was sent, whatever breaks on the way."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgert import artifact
from edgert.cli import main
from edgert.deploy.deploy import deploy, roll_back
from edgert.deploy.device import Device
from edgert.deploy.model import RemoteModel
from edgert.errors import DoesNotFit, EdgertError, UsageError
from tests.deploy.conftest import SEGMENT, write
from tests.deploy.sshd import Proxy, Sshd
from tests.edgert import fake_artifact as fake

pytestmark = pytest.mark.apt
SAID = ["z: error 0 of the range, passed", "some/positive:0: error 0 of the range, passed"]


def edgert(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_deploy_run_verify_bench(tmp_path: Path, fake_code: Path, uri: str, there: Path, inputs: dict) -> None:
    path = write(tmp_path / "my model.edge", fake_code)
    done = edgert("deploy", path, uri, "--json")
    assert done.exit_code == 0, done.stderr
    first = json.loads(done.stdout)
    assert first["said"] == SAID and first["runner_sent"]
    assert first["sent_bytes"] == first["bytes"] == path.stat().st_size and first["copied_bytes"] == 0
    assert (there / path.name).read_bytes() == path.read_bytes()
    assert [p.name for p in (there / ".edgert").iterdir() if p.suffix == ".part"] == []

    again = deploy(str(path), uri)
    assert (again.sent_bytes, again.copied_bytes, again.runner_sent, again.said) == (0, 0, False, SAID)

    words = []
    for name, array in inputs.items():
        np.save(tmp_path / f"{name}.npy", array)
        words += ["--input", f"{name}={tmp_path}/{name}.npy"]
    done = edgert("run", path, *words, "--output", tmp_path / "out", "--device", uri, "--profile", "--json")
    assert done.exit_code == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "z.npy"), fake.expected(inputs)["z"])
    found = json.loads(done.stdout)
    assert [step["name"] for step in found["profile"]] == ["scale", "select"]
    assert 0 < found["run_seconds"] < 1

    found = json.loads(edgert("verify", path, "--device", uri, "--json").stdout)
    assert found["passed"] and found["device"] == uri
    found = json.loads(edgert("bench", path, "--device", uri, "--seconds", 0.05, "--threads", 1, "--json").stdout)
    assert found["threads"] == 1 and found["runtimes"][0]["runs"] > 3 and found["runtimes"][0]["best_ms"] > 0
    bad = edgert("run", path, "--input", f"x={tmp_path}/x.npy", "--input", "y=nan", "--device", uri)
    assert bad.exit_code == 2 and len(bad.stderr.splitlines()) == 1


def test_a_profile_has_the_best_of_its_runs(
    tmp_path: Path, fake_code: Path, uri: str, inputs: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[str, ...]] = []
    call = Device.call

    def spy(self: Device, *words: str, given: Iterable[bytes] = ()) -> bytes:
        called.append(words)
        return call(self, *words, given=given)

    with RemoteModel(str(write(tmp_path / "m.edge", fake_code)), uri, 1) as model:
        monkeypatch.setattr(Device, "call", spy)
        steps = model.profile(inputs, 7)
    assert [step["name"] for step in steps] == ["scale", "select"] and all(step["ns"] > 0 for step in steps)
    assert called[-1][-3:] == ("--profile", "--time", "7")


def test_only_what_changed_is_sent_and_rolled_back(tmp_path: Path, fake_code: Path, uri: str, there: Path) -> None:
    (tmp_path / "a").mkdir()
    old, new = write(tmp_path / "m.edge", fake_code), write(tmp_path / "a" / "m.edge", fake_code, changed=3)
    deploy(str(old), uri)
    sent = deploy(str(new), uri)
    assert SEGMENT < sent.sent_bytes < SEGMENT + 10_000  # the manifest, and headers
    assert sent.sent_bytes + sent.copied_bytes == sent.bytes
    assert (there / "m.edge").read_bytes() == new.read_bytes()
    assert (there / "m.edge.previous").read_bytes() == old.read_bytes()
    assert roll_back("m.edge", uri).path == str(there / "m.edge")
    assert (there / "m.edge").read_bytes() == old.read_bytes()
    assert edgert("deploy", "m.edge", uri, "--rollback").exit_code == 0
    assert (there / "m.edge").read_bytes() == new.read_bytes()
    done = edgert("deploy", "other.edge", uri, "--rollback")
    assert done.exit_code == 1 and "other.edge has no previous version" in done.stderr


@pytest.mark.parametrize("share", [0.02, 0.6, 0.999])
def test_a_connection_cut_anywhere(tmp_path: Path, fake_code: Path, proxy: Proxy, there: Path, share: float) -> None:
    """The old one stays and works, and what came is not sent again."""
    (tmp_path / "a").mkdir()
    old, new = write(tmp_path / "m.edge", fake_code), large(tmp_path / "a" / "m.edge", fake_code)
    uri = f"ssh://127.0.0.1:{proxy.port}{tmp_path}/on%20the%20device%27s"
    deploy(str(old), uri)
    proxy.limit = int(share * new.stat().st_size)
    with pytest.raises(EdgertError, match=r"broke.*the same command goes on where this one stopped"):
        deploy(str(new), uri)
    proxy.limit = None
    assert (there / "m.edge").read_bytes() == old.read_bytes()
    (runner,) = (there / ".edgert").glob("edgert-run-*")
    subprocess.run([runner, there / "m.edge", "--verify"], check=True, stdout=subprocess.DEVNULL)
    sent = deploy(str(new), uri)
    assert sent.said == SAID
    assert (there / "m.edge").read_bytes() == new.read_bytes()
    assert sent.sent_bytes + sent.copied_bytes + sent.resumed_bytes == sent.bytes
    # what was on its way is lost: at most the window of a channel of sshd, 2 MiB, and the pipe behind it
    assert sent.resumed_bytes >= share * sent.bytes - (2 << 20) - (1 << 18)
    assert [p.name for p in (there / ".edgert").iterdir() if p.suffix == ".part"] == []


def large(path: Path, code: Path) -> Path:
    """An artifact of 8 MiB that has nothing in common with others."""
    weights = fake.SCALE.tobytes() + np.random.default_rng(9).bytes((8 << 20) - 16)
    inputs = fake.make_inputs(8)
    artifact.write(path, fake.make_manifest(len(weights)), code.read_bytes(), weights, inputs, fake.expected(inputs))
    return path


def test_a_file_that_was_damaged_there_comes_anew(tmp_path: Path, fake_code: Path, uri: str, there: Path) -> None:
    (tmp_path / "a").mkdir()
    path, new = write(tmp_path / "m.edge", fake_code), write(tmp_path / "a" / "m.edge", fake_code, changed=5)
    deploy(str(path), uri)
    for wanted in (path, new):
        data = bytearray((there / "m.edge").read_bytes())
        data[SEGMENT * 2] ^= 1
        (there / "m.edge").write_bytes(data)
        assert deploy(str(wanted), uri).said == SAID
        assert (there / "m.edge").read_bytes() == wanted.read_bytes()


def test_one_that_answers_wrong_does_not_take_the_place(tmp_path: Path, fake_code: Path, uri: str, there: Path) -> None:
    (tmp_path / "a").mkdir()
    path, inputs = write(tmp_path / "m.edge", fake_code), fake.make_inputs(8)
    deploy(str(path), uri)
    wrong = {**fake.expected(inputs), "z": fake.expected(inputs)["z"] + 1}
    weights = fake.make_weights()
    manifest, code = fake.make_manifest(len(weights)), fake_code.read_bytes()
    artifact.write(tmp_path / "a" / "m.edge", manifest, code, weights, inputs, wrong)
    with pytest.raises(EdgertError, match=r"z: error .* FAILED"):
        deploy(str(tmp_path / "a" / "m.edge"), uri)
    assert (there / "m.edge").read_bytes() == path.read_bytes()


def test_host_keys_are_checked(tmp_path: Path, fake_code: Path, sshd: Sshd, uri: str, there: Path) -> None:
    path, known = write(tmp_path / "m.edge", fake_code), sshd.home / ".ssh" / "known_hosts"
    right = known.read_text()
    try:
        known.write_text("")
        with pytest.raises(EdgertError, match="its host key is not known: connect once with ssh"):
            deploy(str(path), uri)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
        known.write_text(f"[127.0.0.1]:{sshd.port} {' '.join((tmp_path / 'other.pub').read_text().split()[:2])}\n")
        with pytest.raises(EdgertError, match="its host key is not the one that is known"):
            deploy(str(path), uri)
    finally:
        known.write_text(right)
    assert not there.exists()
    key = sshd.home / ".ssh" / "id_ed25519"
    key.rename(tmp_path / "kept")
    try:
        with pytest.raises(EdgertError, match="there is no key to log in with"):
            deploy(str(path), uri)
    finally:
        (tmp_path / "kept").rename(key)


def test_what_the_device_lacks_is_told_before_anything_is_sent(
    tmp_path: Path, fake_code: Path, uri: str, there: Path
) -> None:
    triple = fake.make_manifest(0)["target"]["triple"]
    other = {"name": "t", "triple": "mips-unknown-linux-gnu", "features": []}
    needs = {"name": "t", "triple": triple, "features": ["fpu", "avx9"]}
    for changes, error, words in (
        ({"target": other}, EdgertError, "compiled for mips, 127.0.0.1 is"),
        ({"target": needs}, EdgertError, "needs avx9, which 127.0.0.1 lacks"),
        ({"arena_bytes": 1 << 44}, DoesNotFit, "bytes of memory .*free on 127.0.0.1"),
    ):
        path = write(tmp_path / "m.edge", fake_code, **changes)  # type: ignore[arg-type]
        with pytest.raises(error, match=words):
            deploy(str(path), uri)
        assert sorted(p.name for p in there.iterdir()) == [".edgert"]
        assert len(list((there / ".edgert").iterdir())) == 1  # the runner


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_a_full_disk(tmp_path: Path, fake_code: Path, uri: str, there: Path) -> None:
    (tmp_path / "a").mkdir()
    old, new = write(tmp_path / "m.edge", fake_code), large(tmp_path / "a" / "m.edge", fake_code)
    there.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12M", "none", there], check=False).returncode:
        pytest.skip("no mounts here")
    try:
        deploy(str(old), uri)
        (there / "filler").write_bytes(bytes(2_000_000))
        with pytest.raises(DoesNotFit, match=r"bytes of disk on .*, free are"):
            deploy(str(new), uri)
        assert (there / "m.edge").read_bytes() == old.read_bytes()
        (there / "filler").unlink()
        (there / ".edgert").rename(there / "gone")
        (there / "filler").write_bytes(bytes(10_200_000))
        with pytest.raises(EdgertError, match="No space left on device"):
            deploy(str(new), uri)  # not even the runner has room
        assert list((there / ".edgert").iterdir()) == []
        assert (there / "m.edge").read_bytes() == old.read_bytes()
    finally:
        subprocess.run(["umount", there], check=True)


def test_no_permission_to_write(tmp_path: Path, fake_code: Path, sshd: Sshd, home: Path) -> None:
    path = write(tmp_path / "m.edge", fake_code)
    for folder in ("/proc/none", "/sys/none"):  # where not even root makes folders
        with pytest.raises(EdgertError, match="cannot create directory"):
            deploy(str(path), f"ssh://127.0.0.1:{sshd.port}{folder}")


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("ssh://host", "names no folder"),
        ("ssh:///folder", "names no host"),
        ("ssh://a b:c/d", "write it as ssh://"),
        ("ftp://host/folder", "write it as ssh://"),
        ("ssh://host/~/-x", "names no folder"),
    ],
)
def test_uris_that_are_none(tmp_path: Path, fake_code: Path, uri: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        deploy(str(write(tmp_path / "m.edge", fake_code)), uri)


def test_nobody_answers(tmp_path: Path, fake_code: Path, home: Path) -> None:
    from tests.deploy.sshd import free_port

    with pytest.raises(EdgertError, match="cannot be reached on port"):
        deploy(str(write(tmp_path / "m.edge", fake_code)), f"ssh://127.0.0.1:{free_port()}/tmp/x")
