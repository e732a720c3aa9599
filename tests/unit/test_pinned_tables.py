"""Workers read the tables of names that were planned with, as they load the checkpoints that were."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luke_batch.annotate.annotator import ModelStage, model_stages
from luke_batch.annotate.preparation import Preparation
from luke_batch.base.errors import InputError
from luke_batch.config import JobConfig
from luke_batch.distributed.planning import table_hashes, with_pinned_tables
from tests.checkpoints import Recipe, with_head


def _names(path: Path, name: str) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"name": [name], "title": ["[MASK]"], "count": [1]}), path)
    else:
        content = f"name\n{name}\n".encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def _model(config: JobConfig) -> ModelStage:
    return ModelStage(config, model_stages(config)[0], "cpu")


_CASES: list[tuple[str, str, dict[str, Any], Callable[[JobConfig], object]]] = [
    *(
        ("gazetteer", f"names.{ending}", {"head": "ner", "spans": "gazetteer"}, Preparation)
        for ending in ("csv", "csv.gz", "parquet")
    ),
    ("aliases", "names.parquet", {"head": "ner", "spans": "alias"}, Preparation),
    ("aliases", "names.parquet", {"head": "links", "spans": "given"}, _model),
]


@pytest.mark.parametrize(("key", "file", "head", "load"), _CASES)
def test_workers_read_what_was_planned(
    key: str,
    file: str,
    head: dict[str, Any],
    load: Callable[[JobConfig], object],
    checkpoint_folder: Callable[[Recipe], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A table that was changed since is refused in one line by whoever loads it, and by a plan that asks for
    what it was; the same content again is not.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    _names(tmp_path / file, "Anna")
    job = JobConfig.model_validate(
        {
            "input": {"mentions_column": "given"},
            "models": {"main": {"path": str(checkpoint_folder(with_head(head["head"], Recipe())))}},
            "proposers": {key: {"path": file}},
            "heads": [head],
        }
    )
    fixed = JobConfig.model_validate_json(with_pinned_tables(job, table_hashes(job)).model_dump_json())
    monkeypatch.chdir("/")
    load(fixed)
    content = (tmp_path / file).read_bytes()
    _names(tmp_path / file, "Berta")
    refusal = r"^(gazetteer|alias table) \S+: .* hash is \w{64}, not \w{64} as planned; [^\n]*$"
    for use in (load, table_hashes):
        with pytest.raises(InputError, match=refusal):
            use(fixed)
    (tmp_path / file).write_bytes(content)
    load(fixed)
