"""Runs a folder of `--target webgpu --emit source` by wgpu, where there is an adapter (Mesa's lavapipe is one)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

MOST_GROUPS = 65535  # along one axis of a dispatch


def adapter() -> Any:
    """An adapter; None where wgpu or a driver is missing."""
    try:
        import wgpu

        return wgpu.gpu.request_adapter_sync(power_preference="low-power")
    except Exception:  # wgpu raises many kinds
        return None


def run(folder: Path, adapter: Any, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The answers of the model in `folder`: inputs, outputs and arena in one buffer each, launches in order."""
    import wgpu

    manifest = json.loads((folder / "manifest.json").read_text())
    device = adapter.request_device_sync(required_limits={"max-storage-buffers-per-shader-stage": 8})
    usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST

    def buffer(size: int, data: bytes = b"") -> Any:
        made = device.create_buffer(size=max(256, -(-size // 4) * 4), usage=usage)
        if data:
            device.queue.write_buffer(made, 0, data)
        return made

    ports = [*manifest["inputs"], *manifest["outputs"]]
    ios = [buffer(port["bytes"], given[port["name"]].tobytes() if port["name"] in given else b"") for port in ports]
    memories = {"arena": buffer(manifest["arena_bytes"]), "weights": buffer(0)}
    if manifest["weights_bytes"]:
        memories["weights"] = buffer(manifest["weights_bytes"], (folder / "weights.bin").read_bytes())
    encoder = device.create_command_encoder()
    for launch in manifest["device"]["launches"]:
        code = (folder / "kernels" / f"{launch['kernel']}.wgsl").read_text()
        module = device.create_shader_module(code=code)
        # not layout="auto", which leaves out the buffers that a shader declares and does not read
        kinds = [*(["storage"] * len(launch["buffers"])), "uniform"]
        layout = device.create_bind_group_layout(
            entries=[
                {"binding": i, "visibility": wgpu.ShaderStage.COMPUTE, "buffer": {"type": kind}}
                for i, kind in enumerate(kinds)
            ]
        )
        pipeline = device.create_compute_pipeline(
            layout=device.create_pipeline_layout(bind_group_layouts=[layout]),
            compute={"module": module, "entry_point": launch["kernel"]},
        )
        groups = -(-launch["items"] // launch["workgroup"])
        bound = [ios[n] if memory == "io" else memories[memory] for memory, n, _ in launch["buffers"]]
        uniform = device.create_buffer_with_data(
            data=np.array([groups - 1, 0, 0, 0], np.uint32), usage=wgpu.BufferUsage.UNIFORM
        )
        entries = [
            {"binding": i, "resource": {"buffer": b, "offset": place[2], "size": -(-size // 4) * 4}}
            for i, (b, place, size) in enumerate(zip(bound, launch["buffers"], launch["sizes"], strict=True))
        ]
        entries.append({"binding": len(bound), "resource": {"buffer": uniform, "offset": 0, "size": 16}})
        compute = encoder.begin_compute_pass()
        compute.set_pipeline(pipeline)
        compute.set_bind_group(0, device.create_bind_group(layout=layout, entries=entries))
        across = min(groups, MOST_GROUPS)
        compute.dispatch_workgroups(across, 1, -(-groups // across))
        compute.end()
    device.queue.submit([encoder.finish()])
    found = {}
    for port, io in list(zip(ports, ios, strict=True))[len(manifest["inputs"]) :]:
        raw = bytes(device.queue.read_buffer(io))[: port["bytes"]]
        found[port["name"]] = np.frombuffer(raw, port["dtype"]).reshape(port["shape"])
    return found
