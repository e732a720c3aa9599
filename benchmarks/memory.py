"""Memory of a model actor: `make bench-memory`, or `python -m benchmarks.memory [--smoke]`.

    the embedded model     the default heads in a child process, as an actor has it, before and after a work
                           item of many documents
    LUKE-base's size       a checkpoint with random weights and a table of 500,000 entities
                           (float32, 256 wide) loaded by the fast engine; then mentions are typed and embedded

Of the entity table is counted which of its pages this process has mapped (/proc/self/pagemap), in the file
itself and wherever else it may be: what was copied would be in RssAnon. Linux only.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.models import BASE_SIZE
from benchmarks.page import PAGE, circumstances, markdown, put
from benchmarks.watching import memory
from luke_batch.annotate.annotator import ModelStage, model_stages
from luke_batch.annotate.preparation import Preparation
from luke_batch.config import InputConfig, JobConfig
from luke_batch.isolation.guard import Guard
from luke_batch.isolation.messages import to_stream
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.files.facts import HeadFacts
from luke_batch.model.writing.single_head import write_single_head

_ENTITIES = 500_000
_DOCUMENTS, _SMOKE_DOCUMENTS = 48, 4
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PRESENT = np.uint64(1 << 63)
_TABLE = "luke.entity_embeddings.entity_embeddings.weight"


@dataclass(frozen=True, slots=True)
class Reading:
    """A process at one moment."""

    process: str
    after: str
    anonymous: int
    """RssAnon, bytes: its own memory, shared with no other process."""
    mapped: int
    """RssFile, bytes: pages of files, which processes share and the kernel may drop."""
    table: int | None = None
    """Bytes of the entity table among them."""

    @classmethod
    def of(cls, process: str, after: str, pid: int | None = None, table: int | None = None) -> "Reading":
        """The process as it is now; this one without `pid`."""
        return cls(process, after, memory("RssAnon", pid), memory("RssFile", pid), table)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="few documents; writes nothing")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--make", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        make(arguments.folder)
        return
    if arguments.folder is not None:
        print(json.dumps([asdict(reading) for reading in large_table(arguments.folder)]))
        return
    readings = embedded(_SMOKE_DOCUMENTS if arguments.smoke else _DOCUMENTS)
    with TemporaryDirectory(prefix="luke-batch-memory-") as folder:
        # The process that makes the checkpoint has had its table in memory.
        command = [sys.executable, "-m", "benchmarks.memory", "--folder", folder]
        subprocess.run([*command, "--make"], check=True)
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        readings += [Reading(**entry) for entry in json.loads(done.stdout.splitlines()[-1])]
        entities = table_bytes(Path(folder))
    content = f"{circumstances('torch')}\n\n{table(readings)}\n\nThe entity table has {_mb(entities)} MB."
    print(content)
    if not arguments.smoke:
        put(PAGE, "memory", content)


def embedded(documents: int) -> list[Reading]:
    """The child process of an actor with the embedded model."""
    job = JobConfig(input=InputConfig(lang_column="lang"))
    corpus = pq.read_table(str(files("luke_batch.embedded") / "corpus.parquet"))
    rows = np.linspace(0, len(corpus), documents, endpoint=False).astype(int)
    prepared = to_stream(Preparation(job)(corpus.take(rows)))
    process = "child of an actor, embedded model, default heads"
    with Guard(job, 0) as guard:
        loaded = Reading.of(process, "loading", guard.process_id)
        guard(prepared)
        return [loaded, Reading.of(process, f"a work item of {documents} documents", guard.process_id)]


def make(folder: Path) -> None:
    """Write a LukeForEntityClassification of LUKE-base's size with `_ENTITIES` entities."""
    import torch
    from transformers import LukeConfig, LukeModel

    embedded = resolve("embedded")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(embedded.folder / name, folder)
    titles = json.loads((embedded.folder / "entity_vocab.json").read_text(encoding="utf-8"))
    titles |= {f"Entity {number}": number for number in range(len(titles), _ENTITIES)}
    (folder / "entity_vocab.json").write_text(json.dumps(titles), encoding="utf-8")
    settings = {**embedded.config, **BASE_SIZE, "entity_vocab_size": _ENTITIES}
    facts = HeadFacts(labels=embedded.heads["types"].labels)
    weights = LukeModel(LukeConfig.from_dict(settings), add_pooling_layer=False).state_dict()
    weights["classifier.weight"] = torch.randn(len(facts.labels), BASE_SIZE["hidden_size"])
    weights["classifier.bias"] = torch.zeros(len(facts.labels))
    write_single_head(folder, "types", facts, settings, None, weights)


def large_table(folder: Path) -> list[Reading]:
    """This process loads that checkpoint and types and embeds mentions."""
    import torch

    torch.set_num_threads(1)
    job = JobConfig.model_validate(
        {
            "input": {"mentions_column": "given"},
            "models": {"main": {"path": str(folder)}},
            "heads": [
                {"head": "types", "spans": "given"},
                {"head": "embeddings", "of": "mentions", "spans": "given"},
            ],
        }
    )
    process = f"engine, LUKE-base's size, {_ENTITIES:,} entities"
    readings = [Reading.of(process, "its imports")]
    stage = ModelStage(job, model_stages(job)[0], "cpu")
    readings.append(Reading.of(process, "loading", table=_table_in_memory(folder)))
    text = "Marie Curie was born in Warsaw and moved to Paris."
    given = [{"start": text.index(name), "end": text.index(name) + len(name)} for name in ("Marie Curie", "Paris")]
    documents = pa.table({"id": ["a", "b"], "text": [text, text], "given": [given, given]})
    done = stage(Preparation(job)(documents))
    mentions = done["mentions"].combine_chunks().flatten()
    assert all(found["types"] for found in mentions.to_pylist()), "every mention has a type"
    readings.append(Reading.of(process, "typing and embedding mentions", table=_table_in_memory(folder)))
    return readings


def table_bytes(folder: Path) -> int:
    """Bytes of the entity table in the file of the checkpoint."""
    start, end = _place(folder)
    return end - start


def table(readings: list[Reading]) -> str:
    """A row for each reading."""
    rows = [
        [
            reading.process,
            reading.after,
            _mb(reading.anonymous),
            _mb(reading.mapped),
            "–" if reading.table is None else f"{reading.table / 1e6:.2f}",
        ]
        for reading in readings
    ]
    columns = ["process", "after", "RssAnon, MB", "RssFile, MB", "entity table in memory, MB"]
    return markdown(columns, rows)


def _place(folder: Path) -> tuple[int, int]:
    """Where the entity table lies in the file: an 8-byte length, a JSON header, the tensors."""
    with (folder / "model.safetensors").open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        start, end = json.loads(file.read(length))[_TABLE]["data_offsets"]
    return 8 + length + start, 8 + length + end


def _table_in_memory(folder: Path) -> int:
    """Bytes of the table that this process has mapped, of all its mappings of the file."""
    path = str(folder / "model.safetensors")
    first, last = _place(folder)
    present = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        area, _, offset, _, _, *name = line.split(maxsplit=5)
        if name != [path]:
            continue
        begin, end = (int(bound, 16) for bound in area.split("-"))
        shift = begin - int(offset, 16)
        begin, end = max(begin, first + shift), min(end, last + shift)
        with Path("/proc/self/pagemap").open("rb") as pages:
            pages.seek(begin // _PAGE * 8)
            entries = np.frombuffer(pages.read(8 * max(0, -(-end // _PAGE) - begin // _PAGE)), np.uint64)
        present += int((entries & _PRESENT != 0).sum())
    return present * _PAGE


def _mb(count: int) -> str:
    return f"{count / 1e6:,.0f}"


if __name__ == "__main__":
    main()
