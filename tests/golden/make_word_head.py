"""Write word-head-luke/, word-head-mluke/ and word-heads.parquet beside this script: a tiny LukeForMaskedLM
of each kind as transformers 4.57.6 saves it, without lm_head.decoder.weight, and what that release makes of a
few prompts. Run it in an environment of its own:

    python -m venv golden-env
    golden-env/bin/pip install transformers==4.57.6 sentencepiece protobuf pyarrow torch
    golden-env/bin/python tests/golden/make_word_head.py

The tokenizers are those of make_golden.py, whose folders lie here.
"""

# transformers 4.57 is not in the environment that pyright sees.
# pyright: reportArgumentType=false

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers
from safetensors import safe_open
from transformers import LukeConfig, LukeForMaskedLM, LukeTokenizer, MLukeTokenizer

FOLDER = Path(__file__).parent
KINDS = {"luke": LukeTokenizer, "mluke": MLukeTokenizer}
PROMPTS = [
    ("Beyoncé lives in ", ", and she doesn't often leave.", 1),
    ("Beyoncé lives in ", ", and she doesn't often leave.", 3),
    ("", " is the capital of California.", 2),
    ("東京タワーは", "年に完成した。", 2),
    ("The European Central Bank raised ", "", 1),
    ("«", "» — столица Российской Федерации", 4),
]
"""Text before and after the gap, and the masks in it."""


def make_model(kind: str, tokenizer: Any) -> LukeForMaskedLM:
    """Random weights, biases and norms too."""
    config = LukeConfig(
        vocab_size=len(tokenizer),
        entity_vocab_size=1 + max(tokenizer.entity_vocab.values()),
        hidden_size=16,
        entity_emb_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=66,
        type_vocab_size=1,
        use_entity_aware_attention=kind == "luke",
        architectures=["LukeForMaskedLM"],
    )
    torch.manual_seed(0)
    model = LukeForMaskedLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


def row(kind: str, tokenizer: Any, model: LukeForMaskedLM, prompt: tuple[str, str, int]) -> dict[str, Any]:
    """The inputs of 4.57 for `<mask>` in the text and a [MASK] entity over it, and the logits of both."""
    left, right, masks = prompt
    gap = " ".join(["<mask>"] * masks)
    span = (len(left), len(left) + len(gap))
    inputs = tokenizer(f"{left}{gap}{right}", entity_spans=[span], return_tensors="pt")
    places = (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero()[:, 0]
    with torch.inference_mode():
        output = model(**inputs)
    return {
        "kind": kind,
        "left": left,
        "right": right,
        "masks": masks,
        "input_ids": inputs["input_ids"][0].tolist(),
        "entity_ids": inputs["entity_ids"][0].tolist(),
        "entity_positions": [place for place in inputs["entity_position_ids"][0, 0].tolist() if place >= 0],
        "word_logits": output.logits[0, places].tolist(),
        "entity_logits": output.entity_logits[0, 0].tolist(),
    }


def main() -> None:
    """Write the two folders and word-heads.parquet."""
    if transformers.__version__ != "4.57.6":
        raise SystemExit(f"this needs transformers 4.57.6, not {transformers.__version__}")
    rows: list[dict[str, Any]] = []
    for kind, tokenizer_class in KINDS.items():
        tokenizer = tokenizer_class.from_pretrained(FOLDER / f"{kind}-v4-layout")
        folder = FOLDER / f"word-head-{kind}"
        make_model(kind, tokenizer).save_pretrained(folder)
        (folder / "model.safetensors").chmod(0o644)
        with safe_open(folder / "model.safetensors", "pt") as file:
            assert "lm_head.decoder.weight" not in file.keys()  # noqa: SIM118 - it is no mapping
        model = LukeForMaskedLM.from_pretrained(folder).eval()
        rows += [row(kind, tokenizer, model, prompt) for prompt in PROMPTS]
    ids, floats = pa.list_(pa.int32()), pa.list_(pa.float32())
    columns = {
        "kind": pa.string(),
        "left": pa.string(),
        "right": pa.string(),
        "masks": pa.int32(),
        "input_ids": ids,
        "entity_ids": ids,
        "entity_positions": ids,
        "word_logits": pa.list_(floats),
        "entity_logits": floats,
    }
    table = pa.Table.from_pylist(rows, schema=pa.schema(list(columns.items())))
    pq.write_table(table, FOLDER / "word-heads.parquet", compression="zstd", compression_level=19)


if __name__ == "__main__":
    main()
