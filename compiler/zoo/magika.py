"""Magika: the type of a file from its first and last kilobyte (Fratantonio et al. 2024, arXiv:2409.13768)."""

import json

from compiler.zoo.model import Built, Files, Wheel, ZooModel

_FOLDER = "magika/models/standard_v3_3/"
_ONNX, _CONFIG, _TYPES = _FOLDER + "model.onnx", _FOLDER + "config.min.json", "magika/config/content_types_kb.min.json"

_FACTS = {
    "shapes": {"bytes": "1x2048"},
    "preprocess": {
        "formula": "bytes = 1,024 from the start, 1,024 from the end, whitespace stripped, 256 where there is none",
        "code": "compiler.zoo.magika_features",
    },
}


def build(members: Files) -> Built:
    """The wheel's ONNX as it is: `bytes` int32 [files, 2048] -> `target_label` float32 [files, 214]; and its labels."""
    config, types = json.loads(members[_CONFIG]), json.loads(members[_TYPES])
    labels = config["target_labels_space"]
    keep = ("beg_size", "end_size", "block_size", "padding_token", "min_file_size_for_dl",
            "medium_confidence_threshold", "thresholds", "overwrite_map")  # fmt: skip
    facts = {
        **_FACTS,
        "labels": labels,
        "descriptions": [types[label]["description"] or label for label in labels],
        "is_text": [bool(types[label]["is_text"]) for label in labels],
        **{key: config[key] for key in keep},
    }
    return Built({"magika.onnx": members[_ONNX]}, facts)


MODEL = ZooModel(
    name="magika",
    about="file type from content, 214 types",
    license="Apache-2.0",
    wheel=Wheel(
        project="magika",
        version="1.0.3",
        sha256="3e9b49134e8116ee40b431664dcbed9e199413efddcce1a173c734b4e0521529",
        nbytes=16244594,
        platform="manylinux_2_28_x86_64",
    ),
    members=(_ONNX, _CONFIG, _TYPES),
    build=build,
)
