"""The tasks, and what each reads of GOLD and of ANNOTATED."""

from typing import Literal

import pyarrow as pa

from luke_batch.evaluation.tables import structs

Task = Literal["ner", "types", "relations", "links"]

CONFIDENCE_LEVEL = 0.95
"""Of the intervals."""

_INTEGER, _NUMBER, _TEXT = pa.int64(), pa.float64(), pa.large_string()
_SPAN = {"start": _INTEGER, "end": _INTEGER}
_PAIR = {"head": _INTEGER, "tail": _INTEGER}

GOLD_COLUMNS: dict[Task, dict[str, pa.DataType]] = {
    "ner": {"entities": structs(**_SPAN, label=_TEXT)},
    "types": {"entities": structs(**_SPAN, label=_TEXT)},
    "relations": {"entities": structs(**_SPAN), "relations": structs(**_PAIR, label=_TEXT)},
    "links": {"links": structs(**_SPAN, title=_TEXT)},
}
ANNOTATED_COLUMNS: dict[Task, dict[str, pa.DataType]] = {
    "ner": {"mentions": structs(**_SPAN, label=_TEXT, score=_NUMBER)},
    "types": {"mentions": structs(**_SPAN, types=structs(label=_TEXT, score=_NUMBER))},
    "relations": {"mentions": structs(**_SPAN), "relations": structs(**_PAIR, label=_TEXT, score=_NUMBER)},
    "links": {"mentions": structs(**_SPAN, title=_TEXT, title_score=_NUMBER)},
}
