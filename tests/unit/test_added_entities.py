"""Entities added without training: the files, the rows, and what links makes of them."""

import errno
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from luke_batch.annotate.annotator import Annotator
from luke_batch.base.arrays import FloatArray
from luke_batch.base.errors import CheckpointError, InputError
from luke_batch.cli import run
from luke_batch.config import JobConfig, ModelConfig
from luke_batch.model.engine.engine import Task, load_engine
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import Window
from luke_batch.model.writing import added_entities
from luke_batch.model.writing.added_entities import EntitySpace
from luke_batch.model.writing.append_rows import AppendedRows, append_rows
from luke_batch.titles import add
from luke_batch.titles.add import add_entities
from luke_batch.titles.mentions import of_descriptions, read_mentions
from luke_batch.titles.placement import Placement
from luke_batch.titles.vectors import MentionReader
from tests.checkpoints import Recipe, with_head
from tests.memory import peak_memory

Folders = Callable[[Recipe], Path]
TEXT = pa.large_string()
NEW = ["Zorba Nax", "Quux (band)"]
DESCRIPTIONS = ["Zorba Nax lives in Tokyo.", "A group from Los Angeles that plays loudly."]
LAYOUTS = [
    Recipe(kind="luke", seed=6),
    Recipe(kind="mluke", seed=6),
    Recipe(kind="luke", layout="v5", seed=6),
]


def described(path: Path, titles: list[str] = NEW, descriptions: list[Any] = DESCRIPTIONS) -> str:
    """A table of titles and descriptions."""
    pq.write_table(pa.table({"title": titles, "description": pa.array(descriptions, pa.string())}), path)
    return str(path)


def linked(path: Path, rows: list[tuple[str, list[tuple[int, int, str | None]]]], **columns: Any) -> str:
    """A table of linked documents."""
    kind = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32()), ("title", pa.string())]))
    links = [[{"start": s, "end": e, "title": t} for s, e, t in found] for _, found in rows]
    table = {"text": [text for text, _ in rows], "links": pa.array(links, kind), **columns}
    pq.write_table(pa.table(table), path)
    return str(path)


def scores(folder: Path, entities: int) -> FloatArray:
    """Logits of the first `entities` entities for two mentions."""
    window = Window(
        np.arange(4, 24, dtype=np.int32),
        np.full(2, Tokenizer.load(folder).entity_mask_id, np.int32),
        np.array([[1, 3], [5, 6]], np.int32),
        np.tile(np.arange(entities, dtype=np.int32), (2, 1)),
    )
    engine = load_engine(ModelConfig(), resolve(str(folder)), [Task.LINKS], "cpu")
    return engine.run(Task.LINKS, [window])[0]


def titles_found(folder: Path, text: str, spans: list[tuple[int, int]], titles: list[str]) -> list[str | None]:
    """What `links` chooses among `titles` for each span."""
    mentions = [[{"start": start, "end": end, "candidates": titles} for start, end in spans]]
    job = JobConfig.model_validate(
        {
            "input": {"mentions_column": "given"},
            "heads": [{"head": "links", "model": str(folder), "spans": "given", "candidates": "given"}],
        }
    )
    annotated = Annotator.from_config(job).annotate(pa.table({"text": [text], "given": mentions}))
    return [mention["title"] for mention in annotated["mentions"][0].as_py()]


@pytest.mark.parametrize("recipe", LAYOUTS, ids=["luke", "mluke", "luke-v5"])
def test_known_entities_stay_and_new_ones_win_their_mentions(
    checkpoint_folder: Folders, tmp_path: Path, recipe: Recipe
) -> None:
    """Scores of what was there are equal bit for bit; an added title beats all on the text it comes from."""
    folder = checkpoint_folder(with_head("links", recipe))
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    size = resolve(str(folder)).setting("entity_vocab_size")
    added = add_entities(str(folder), described(tmp_path / "t.parquet"), tmp_path / "new")
    assert (added.added, added.mentions, added.existing, added.skipped) == (2, 2, 0, {})
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert np.array_equal(scores(folder, size), scores(tmp_path / "new", size))
    known = Tokenizer.load(folder).entity_vocab
    vocabulary = Tokenizer.load(tmp_path / "new").entity_vocab
    assert vocabulary == {**known, "Quux (band)": size, "Zorba Nax": size + 1}
    everything = [title for title in vocabulary if not title.startswith("[")]
    assert titles_found(tmp_path / "new", DESCRIPTIONS[0], [(0, 9)], everything) == ["Zorba Nax"]
    assert titles_found(tmp_path / "new", f"Quux: {DESCRIPTIONS[1]}", [(0, 4)], everything) == ["Quux (band)"]


@pytest.mark.parametrize("kind", ["luke", "mluke"])
def test_transformers_loads_the_copy(checkpoint_folder: Folders, tmp_path: Path, kind: Any) -> None:
    """Its own class takes the folder, with head and table tied, also where the file holds the table twice."""
    folder = shutil.copytree(checkpoint_folder(with_head("links", Recipe(kind=kind, seed=5))), tmp_path / "old")
    state = load_file(folder / "model.safetensors")
    table = state["luke.entity_embeddings.entity_embeddings.weight"]
    state["entity_predictions.decoder.weight"] = table.clone()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    add_entities(str(folder), described(tmp_path / "t.parquet"), tmp_path / "new")
    model = transformers.LukeForMaskedLM.from_pretrained(tmp_path / "new")
    assert model.config.entity_vocab_size == len(table) + 2
    assert torch.equal(model.luke.entity_embeddings.entity_embeddings.weight[: len(table)], table)
    found = load_file(tmp_path / "new" / "model.safetensors")
    assert torch.equal(
        found["entity_predictions.decoder.weight"], found["luke.entity_embeddings.entity_embeddings.weight"]
    )


def test_the_embedded_model_learns_a_title_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command: our own format with shards; then `links` with an alias table that names the title."""
    monkeypatch.setattr(add, "KNOWN", 60)  # a thousand names take a quarter of a minute
    table = described(tmp_path / "t.parquet", ["Zorba Nax", "Beyoncé"], ["Zorba Nax is a singer.", "Singer."])
    new = tmp_path / "new"
    assert run(["models", "add-entities", "embedded", table, str(new)]) == 0
    aliases = tmp_path / "aliases.parquet"
    pq.write_table(
        pa.table(
            {
                "name": ["Nax", "Nax", "Nax"],
                "title": ["Zorba Nax", "Los Angeles", "Beyoncé"],
                "count": [1, 1, 1],
                "qid": ["Q1", "Q65", "Q36153"],
            }
        ),
        aliases,
    )
    config = {
        "proposers": {"aliases": {"path": str(aliases)}},
        "heads": [{"head": "links", "model": str(new), "spans": "alias"}],
    }
    job = JobConfig.model_validate(config)
    text = "The singer Nax sang last night."
    mention = Annotator.from_config(job).annotate(pa.table({"text": [text]}))["mentions"][0].as_py()[0]
    assert (mention["title"], mention["qid"]) == ("Zorba Nax", "Q1")
    assert np.array_equal(scores(resolve("embedded").folder, 500), scores(new, 500))
    index = json.loads((new / "model.safetensors.index.json").read_text())
    tensors = [name for file in new.glob("model-*.safetensors") for name in safe_open(file, "pt").keys()]  # noqa: SIM118
    assert sorted(tensors) == sorted(index["weight_map"])
    sizes = [item.nbytes for file in new.glob("model-*.safetensors") for item in load_file(file).values()]
    assert index["metadata"]["total_size"] == sum(sizes)


def test_an_int8_table_grows_by_its_scales(checkpoint_folder: Folders, tmp_path: Path) -> None:
    """New rows are quantised like the others, whose integers and scales stay."""
    folder = shutil.copytree(checkpoint_folder(with_head("links", Recipe(seed=3))), tmp_path / "old")
    name = "luke.entity_embeddings.entity_embeddings.weight"
    state = load_file(folder / "model.safetensors")
    scale = state[name].abs().amax(1) / 127
    state |= {name: (state[name] / scale[:, None]).round().to(torch.int8), f"{name}.scale": scale.half()}
    state.pop("entity_predictions.decoder.weight", None)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    add_entities(str(folder), described(tmp_path / "t.parquet"), tmp_path / "new")
    found = load_file(tmp_path / "new" / "model.safetensors")
    assert found[name].dtype == torch.int8
    assert found[f"{name}.scale"].dtype == torch.float16
    assert torch.equal(found[name][: len(scale)], state[name])
    assert found[name].shape[0] == found[f"{name}.scale"].shape[0] == len(scale) + 2
    assert titles_found(tmp_path / "new", DESCRIPTIONS[0], [(0, 9)], ["Tokyo", *NEW]) == ["Zorba Nax"]


_dtypes = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.int64])


@given(st.lists(st.tuples(_dtypes, st.integers(0, 5), st.integers(1, 3), st.integers(0, 3)), min_size=1, max_size=5))
def test_appending_rows_equals_concatenation(
    tmp_path_factory: pytest.TempPathFactory, tensors: list[tuple[torch.dtype, int, int, int]]
) -> None:
    """Of any tensors in any order; metadata and all other bytes stay."""
    folder = tmp_path_factory.mktemp("rows")
    generator = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}
    added: dict[str, torch.Tensor] = {}
    for number, (kind, rows, width, more) in enumerate(tensors):
        state[f"t{number}"] = torch.randint(-100, 100, (rows, width), generator=generator).to(kind)
        if more:
            added[f"t{number}"] = torch.randint(-100, 100, (more, width), generator=generator).to(kind)
    save_file(state, folder / "a.safetensors", metadata={"format": "pt"})
    stored = {name: AppendedRows(len(rows), rows.view(torch.uint8).numpy().tobytes()) for name, rows in added.items()}
    append_rows(folder / "a.safetensors", folder / "b.safetensors", stored)
    found = load_file(folder / "b.safetensors")
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(found[name], torch.cat([tensor, added[name]]) if name in added else tensor)
    with safe_open(folder / "b.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel tells no peak memory")
def test_a_large_table_is_never_in_memory(tmp_path: Path) -> None:
    """Of 128 MB a few are held at a time."""
    save_file({"table": torch.zeros(500_000, 64)}, tmp_path / "a.safetensors")
    rows = AppendedRows(1, np.ones(64, np.float32).tobytes())
    with peak_memory() as growth:
        append_rows(tmp_path / "a.safetensors", tmp_path / "b.safetensors", {"table": rows})
    assert growth[0] < 40 * 2**20
    assert (tmp_path / "b.safetensors").stat().st_size > 500_001 * 256


@pytest.mark.parametrize(
    ("title", "description", "text", "start"),
    [
        ("Ann", "Annual news of Ann.", "Annual news of Ann.", 15),
        ("Quux (band)", "They are Quux.", "They are Quux.", 9),
        ("en:Quux", "", "Quux", 0),
        ("Ann", None, "Ann", 0),
        ("Ann", "Annual news.", "Ann: Annual news.", 0),
        ("ja:東京", "日本の首都東京。", "日本の首都東京。", 5),
        ("New_York", "In New York.", "In New York.", 3),
    ],
)
def test_where_a_description_names_its_title(title: str, description: str | None, text: str, start: int) -> None:
    """At the first occurrence as whole words, else before the description."""
    skipped: Counter[str] = Counter()
    found = of_descriptions(pa.array([title, " "], TEXT), pa.array([description, "x"], TEXT), skipped)
    assert found.texts.to_pylist() == [text]
    assert found.spans[0, 0] == start
    assert skipped == {"blank title": 1}


def test_which_mentions_of_documents_count(tmp_path: Path) -> None:
    """With a column `title` those of it; offsets outside and mentions without title are none."""
    rows: list[tuple[str, list[tuple[int, int, str | None]]]] = [
        ("Ann met Bob", [(0, 3, "Ann"), (8, 11, "Bob"), (8, 99, "Bob"), (4, 7, None), (0, 3, " ")])
    ]
    skipped: Counter[str] = Counter()
    (found,) = read_mentions(linked(tmp_path / "a.parquet", rows), "text", skipped)
    assert found.titles.to_pylist() == ["Ann", "Bob", None, None]
    assert skipped == {"offset outside of the text": 1, "blank title": 1}
    (found,) = read_mentions(linked(tmp_path / "b.parquet", rows, title=["Bob"]), "text", skipped)
    assert found.titles.to_pylist() == [None, "Bob", None, None]


def test_vectors_of_mentions_are_averaged(checkpoint_folder: Folders, tmp_path: Path) -> None:
    """The mean over all mentions of a title; what no token covers is counted, and its title has none."""
    folder = checkpoint_folder(with_head("links", Recipe(seed=3)))
    space = EntitySpace(resolve(str(folder)))
    reader = MentionReader(str(folder), "cpu", space)
    texts = ["Ann is here.", "There was Ann once."]
    rows: list[tuple[str, list[tuple[int, int, str | None]]]] = [
        (texts[0], [(0, 3, "Ann")]),
        ("nobody", []),
        (texts[1], [(10, 13, "Ann"), (5, 6, "Nix")]),
    ]
    titles = pa.array(["Ann", "Nix"], TEXT)
    both = reader.means(read_mentions(linked(tmp_path / "a.parquet", rows), "text", Counter()), titles)
    alone = [
        reader.means(read_mentions(linked(tmp_path / f"{n}.parquet", [row]), "text", Counter()), titles)
        for n, row in enumerate(rows)
    ]
    mean = (alone[0].vectors[0] + alone[2].vectors[0]) / 2
    assert both.vectors[0] == pytest.approx(mean, abs=1e-5)
    assert np.abs(alone[0].vectors[0] - alone[2].vectors[0]).max() > 0.01
    assert both.counts.tolist() == [2, 0]
    assert (both.unread, alone[1].counts.tolist()) == (1, [0, 0])
    assert np.isnan(both.vectors[1]).all()


@given(st.integers(2, 20), st.floats(0.1, 9), st.integers(0, 99))
def test_placement_maps_one_cloud_onto_the_other(count: int, stretch: float, seed: int) -> None:
    """Where rows are moved and stretched vectors, it finds just that."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 4)).astype(np.float32)
    rows = (stretch * vectors + np.arange(4)).astype(np.float32)
    found = Placement.fit(vectors, rows, np.linspace(0, 1, count, dtype=np.float32), "model")
    assert found.rows(vectors) == pytest.approx(rows, abs=1e-3)
    assert found.biases(2) == pytest.approx([0.5, 0.5])


def test_one_known_title_is_too_few() -> None:
    """There is no radius to learn."""
    one = np.ones((1, 4), np.float32)
    with pytest.raises(CheckpointError, match="model: only 1 of its titles can be read"):
        Placement.fit(one, one, np.zeros(1, np.float32), "model")


def test_refusals(checkpoint_folder: Folders, tmp_path: Path) -> None:
    """One line with the reason, and nothing at the destination."""
    table, out = described(tmp_path / "t.parquet"), tmp_path / "new"
    full = str(checkpoint_folder(with_head("links", Recipe(seed=3))))
    lite = str(checkpoint_folder(with_head("links", Recipe(lite=True))))
    with pytest.raises(CheckpointError, match="holds no titles"):
        add_entities(lite, table, out)
    with pytest.raises(CheckpointError, match="has no links head"):
        add_entities(str(checkpoint_folder(Recipe())), table, out)
    with pytest.raises(CheckpointError, match="exists and is not an empty folder"):
        add_entities(full, table, tmp_path)
    with pytest.raises(CheckpointError, match="cannot be written"):
        add_entities(full, table, Path(table) / "new")
    known = described(tmp_path / "known.parquet", ["Tokyo", "en:Beyoncé", "[MASK]"], ["a", "b", "c"])
    with pytest.raises(InputError, match=r"no title that .* lacks \(2 titles are there already\)"):
        add_entities(full, known, out)
    pq.write_table(pa.table({"title": ["Ann"]}), tmp_path / "bare.parquet")
    with pytest.raises(InputError, match=r"bare\.parquet: no column description or links"):
        add_entities(full, str(tmp_path / "bare.parquet"), out)
    unread = linked(tmp_path / "unread.parquet", [("a  b", [(1, 2, "Ann")])])
    with pytest.raises(InputError, match="none of its mentions can be read"):
        add_entities(full, unread, out)
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".parquet"] * 4


def test_a_full_disk_leaves_nothing(
    checkpoint_folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line with the cause; neither a part of the copy nor its temporary folder stays."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(added_entities, "append_rows", full)
    folder = str(checkpoint_folder(with_head("links", Recipe(seed=3))))
    with pytest.raises(CheckpointError, match=r"new: cannot be written \(No space left on device\)"):
        add_entities(folder, described(tmp_path / "t.parquet"), tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_what_the_command_prints(
    checkpoint_folder: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counts in words, or as JSON."""
    folder = str(checkpoint_folder(with_head("links", Recipe(seed=3))))
    table = linked(
        tmp_path / "t.parquet",
        [("Ann saw Tokyo", [(0, 3, "Ann"), (8, 13, "Tokyo"), (9, 99, "Ann")]), ("Ann", [(0, 3, "Ann")])],
    )
    assert run(["models", "add-entities", folder, table, str(tmp_path / "a")]) == 0
    assert capsys.readouterr().out == (
        f"{tmp_path / 'a'}: 1 titles added, from 2 mentions; 1 were there already\n"
        "  left out: 1 × offset outside of the text\n"
    )
    assert run(["models", "add-entities", folder, table, str(tmp_path / "b"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "added": 1,
        "mentions": 2,
        "existing": 1,
        "skipped": {"offset outside of the text": 1},
    }
