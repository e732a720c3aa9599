"""Write pairs.parquet beside this script: pairs of texts, and windows of long ones, as transformers 4.57.6
builds them with the tokenizers that make_golden.py wrote. Run it in the environment of that script:

    golden-env/bin/python tests/golden/make_pairs.py

LUKE's tokenizers give what is over a window as `overflowing_tokens`, as all of Python's do; the next window
is made of these, as in transformers' own SQuAD processor.
"""

# transformers 4.57 is not in the environment that pyright sees.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

import random
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import transformers
from make_golden import FOLDER, SEED, SENTENCES
from transformers import LukeTokenizer, MLukeTokenizer

CASES_PER_KIND = 24
SHORT = [text for text in SENTENCES if len(text) <= 45]
WINDOWED: tuple[Literal["only_first", "only_second"] | None, ...] = ("only_first", "only_second", None)
"""The text that is read in windows; None: there is one text alone."""


def windows(
    tokenizer: LukeTokenizer | MLukeTokenizer,
    first: str,
    second: str | None,
    cut: Literal["only_first", "only_second"],
    max_length: int,
    stride: int,
) -> list[list[int]]:
    """The ids of all windows."""
    settings: dict[str, Any] = {
        "truncation": cut,
        "max_length": max_length,
        "stride": stride,
        "return_overflowing_tokens": True,
    }
    made = tokenizer(first, second, **settings)
    ids = tokenizer(first, add_special_tokens=False)["input_ids"]
    pair = None if second is None else tokenizer(second, add_special_tokens=False)["input_ids"]
    found = [made["input_ids"]]
    while made.get("overflowing_tokens"):
        left = made["overflowing_tokens"]
        texts = (left, pair) if cut == "only_first" else (ids, left)
        made = tokenizer.prepare_for_model(*texts, **settings)
        found.append(made["input_ids"])
    return found


def main() -> None:
    """Write pairs.parquet."""
    if transformers.__version__ != "4.57.6":
        raise SystemExit(f"this needs transformers 4.57.6, not {transformers.__version__}")
    tokenizers = {
        "luke": LukeTokenizer.from_pretrained(FOLDER / "luke-v4-layout"),
        "mluke": MLukeTokenizer.from_pretrained(FOLDER / "mluke-v4-layout"),
    }
    rng = random.Random(SEED)
    longest_short = max(len(made.tokenize(text)) for made in tokenizers.values() for text in SHORT)
    rows: list[dict[str, Any]] = []
    for windowed in WINDOWED:
        for case in range(CASES_PER_KIND):
            long = " ".join(rng.choices(SENTENCES, k=1 if case % 4 == 0 else rng.randint(2, 8)))
            short = rng.choice(SHORT)
            first, second = (short, long) if windowed == "only_second" else (long, short)
            row: dict[str, Any] = {
                "windowed": windowed,
                "first": first,
                "second": None if windowed is None else second,
                "max_length": 4 + longest_short + rng.randint(50, 200),
                "stride": rng.choice([0, 1, 8, 25]),
            }
            for kind, tokenizer in tokenizers.items():
                row[kind] = windows(
                    tokenizer,
                    row["first"],
                    row["second"],
                    windowed or "only_first",
                    row["max_length"],
                    row["stride"],
                )
            rows.append(row)
    numbers = pa.list_(pa.list_(pa.int32()))
    texts = {name: pa.string() for name in ("windowed", "first", "second")}
    types = {**texts, "max_length": pa.int32(), "stride": pa.int32(), "luke": numbers, "mluke": numbers}
    table = pa.Table.from_pylist(rows, schema=pa.schema(types.items()))
    pq.write_table(table, Path(FOLDER) / "pairs.parquet", compression="zstd", compression_level=19)


if __name__ == "__main__":
    main()
