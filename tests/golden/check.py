"""Compare luke-batch's inputs with those that transformers 4.57.6 built, token for token.

    python tests/golden/check.py FOLDER

FOLDER holds inputs.parquet (text, spans, task, perhaps titles, and the inputs of each tokenizer) and the
tokenizers luke-v4-layout and mluke-v4-layout. Exit code 1 where any case differs.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq

from luke_batch.base.arrays import IntArray
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder, Tokens, Window, padded_positions

NO_CONTEXT = np.zeros(0, np.int32)
KINDS = ("luke", "mluke")

Case = dict[str, Any]  # a row of the file, as pyarrow reads it


def read_cases(folder: Path) -> list[Case]:
    """The rows of inputs.parquet."""
    return pq.read_table(folder / "inputs.parquet").to_pylist()


def window(builder: InputBuilder, task: str | None, tokens: Tokens, titles: list[str] | None) -> Window:
    """The window of one task without context; `titles` replace the [MASK] entities."""
    if task == "entity_classification":
        return builder.typing_window(tokens, NO_CONTEXT, NO_CONTEXT)
    if task == "entity_pair_classification":
        return builder.pair_window(tokens, NO_CONTEXT, NO_CONTEXT)
    made = builder.mention_window(tokens, NO_CONTEXT, NO_CONTEXT, None)
    if titles is None:
        return made
    vocabulary = builder.tokenizer.entity_vocab
    ids = [vocabulary.get(title, builder.tokenizer.entity_unk_id) for title in titles]
    return replace(made, entity_ids=np.array(ids, np.int32))


def difference(builder: InputBuilder, case: Case, tokens: Tokens, kind: str) -> str | None:
    """The name of the first input that differs from the file's, or None."""
    made = window(builder, case["task"], tokens, case.get(f"{kind}_titles"))
    expected = cast("dict[str, object]", case[kind])
    ours: dict[str, IntArray] = {
        "input_ids": made.token_ids,
        "entity_ids": made.entity_ids,
        "entity_position_ids": padded_positions(made.entity_spans, builder.tokenizer.max_mention_length),
    }
    if case["task"] == "entity_span_classification":
        ours["entity_start_positions"] = made.entity_spans[:, 0]
        ours["entity_end_positions"] = made.entity_spans[:, 1] - 1
    return next((name for name, values in ours.items() if values.tolist() != expected[name]), None)


def mismatches(folder: Path, kind: str, tokenizer: Tokenizer | None = None) -> list[str]:
    """A line for each case of one tokenizer that differs; `tokenizer` defaults to the folder's own."""
    builder = InputBuilder(tokenizer or Tokenizer.load(folder / f"{kind}-v4-layout"), max_tokens=sys.maxsize)
    cases = read_cases(folder)
    tokens = builder.tokenize_many([(case["text"], np.array(case["spans"], np.int32).reshape(-1, 2)) for case in cases])
    found = [difference(builder, case, made, kind) for case, made in zip(cases, tokens, strict=True)]
    return [f"{kind} case {row}: {name} differs" for row, name in enumerate(found) if name]


def main(folder: Path) -> int:
    """Print what agrees, and what does not; 1 where anything does not."""
    total = len(read_cases(folder))
    wrong = {kind: mismatches(folder, kind) for kind in KINDS}
    for line in [line for lines in wrong.values() for line in lines]:
        sys.stdout.write(line + "\n")
    counts = ", ".join(f"{kind} {total - len(lines)}/{total}" for kind, lines in wrong.items())
    sys.stdout.write(counts + "\n")
    return int(any(wrong.values()))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
