"""What is refused as a whole, through the real command: exit code 2, one line that names the cause, nothing
written. None of this comes as far as Ray.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from luke_batch import cli
from luke_batch.distributed import run as runner
from tests.checkpoints import Recipe, with_head
from tests.corpora import documents, put

Refused = Callable[..., str]
MakeCheckpoint = Callable[[Recipe], Path]

TWO = documents(2)
WITH_BYTES = TWO.set_column(1, "text", TWO["text"].cast(pa.binary()))


@pytest.fixture
def refused(
    tmp_path: Path,
    multi_head_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Refused:
    """Runs `annotate` on tmp_path/in and checks what holds for every refusal; its line on standard error."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("this must be refused before any work")

    monkeypatch.setattr(runner, "check_cluster", never)  # the first step towards Ray
    for name in ("LUKE_BATCH_DEBUG", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        monkeypatch.delenv(name, raising=False)

    def call(*options: str, input: Path | str | None = None, output: str | None = None) -> str:
        there = tmp_path / "out" if output is None else Path(output)
        model = f"models.main.path={multi_head_folder}"
        source = str(tmp_path / "in" if input is None else input)
        code = cli.run(["annotate", source, str(there), "--set", model, *options])
        captured = capsys.readouterr()
        assert (code, captured.out) == (2, "")
        assert captured.err.startswith("error: ")
        assert captured.err.count("\n") == 1
        assert "Traceback" not in captured.err
        assert not there.exists()
        return captured.err

    return call


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        pytest.param(
            TWO.drop_columns(["text"]),
            [],
            "a.parquet has no column 'text' (columns: id, year); name the right one with --set input.text_c",
            id="no text column",
        ),
        pytest.param(
            TWO.set_column(1, "text", TWO["year"]),
            [],
            "column 'text' is int16, not text",
            id="text is a number",
        ),
        pytest.param(
            WITH_BYTES,
            [],
            "column 'text' is binary, not text; store it as a string column",
            id="text is binary",
        ),
        pytest.param(
            TWO.set_column(1, "text", WITH_BYTES["text"].cast(pa.large_binary())),
            [],
            "column 'text' is large_binary, not text; store it as a string column",
            id="text is large binary",
        ),
        pytest.param(
            TWO.drop_columns(["id"]),
            [],
            "no column 'id' (columns: text, year); name the right one with --set input.id_column=COLUMN, or",
            id="no id column",
        ),
        pytest.param(
            TWO.set_column(0, "id", [[0.5, 1.5]]),
            [],
            "column 'id' is double, not strings or integers",
            id="ids are fractions",
        ),
        pytest.param(
            TWO,
            ["--set", "input.lang_column=year"],
            "column 'year' is int16, not text",
            id="language is a number",
        ),
        pytest.param(
            TWO,
            ["--set", "input.mentions_column=text"],
            "column 'text' is string, not list<struct<start, end>>",
            id="given mentions are text",
        ),
        pytest.param(
            TWO,
            ["--set", "input.mentions_column=spans"],
            "no column 'spans' (columns: id, text, year); name the right one with --set input.mentions_c",
            id="no column of given mentions",
        ),
        pytest.param(
            TWO.append_column("year", TWO["year"]),
            [],
            "has several columns named year",
            id="a doubled column",
        ),
        pytest.param(
            TWO.append_column("_luke_batch_row", TWO["year"]),
            [],
            "names that begin with _luke_batch_ are ours",
            id="a reserved name",
        ),
    ],
)
def test_a_column_that_no_file_has_is_refused(
    refused: Refused, tmp_path: Path, table: pa.Table, options: list[str], said: str
) -> None:
    """Where every file lacks a column, or has it with another type, INPUT as a whole cannot be used."""
    put(tmp_path / "in", "a.parquet", table)
    put(tmp_path / "in", "b.parquet", table)
    line = refused(*options)
    assert said in line
    assert "no file of INPUT can be used" in line
    assert "(and 1 more files)" in line


@pytest.mark.parametrize("content", [b"", b"PAR1", b"id,text\n1,Hello\n" * 9], ids=["empty", "torn", "csv"])
def test_no_usable_file_is_refused(refused: Refused, tmp_path: Path, content: bytes) -> None:
    """Files that are no Parquet at all, and nothing beside them; also where INPUT is that very file."""
    path = tmp_path / "in" / "a.parquet"
    path.parent.mkdir()
    path.write_bytes(content)
    assert "no file of INPUT can be used: a.parquet " in refused()
    assert "no file of INPUT can be used: a.parquet " in refused(input=path)


def test_no_file_at_all_is_refused(refused: Refused, tmp_path: Path) -> None:
    """A path that does not exist, an empty folder, hidden or foreign files alone, a glob without a match."""
    folder = tmp_path / "in"
    assert "does not exist" in refused()
    folder.mkdir()
    assert "holds no Parquet file" in refused()
    for name in ("notes.txt", ".hidden.parquet", "_SUCCESS"):
        (folder / name).touch()
    assert "holds no Parquet file" in refused()
    assert "holds no Parquet file" in refused(input=folder / "*.parquet")


def test_an_unfit_output_is_refused(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OUTPUT below INPUT, OUTPUT below a file, and relative paths in a submitted job."""
    put(tmp_path / "in", "a.parquet", TWO)
    assert "lies inside INPUT" in refused(output=str(tmp_path / "in" / "out"))
    (tmp_path / "file").touch()
    assert "is a file; choose another folder" in refused(output=str(tmp_path / "file" / "out"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert "OUTPUT out is relative, but a submitted job" in refused(output="out")
    assert "INPUT in is relative, but a submitted job" in refused(input="in")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("config.json", "no config.json; copy the whole folder"),
        ("vocab.json", "no vocab.json"),
        ("merges.txt", "no merges.txt"),
        ("entity_vocab.json", "no entity_vocab.json"),
        ("heads.safetensors", "no heads.safetensors"),
        ("luke_batch.json", "has no ner head"),
        ("model.safetensors.index.json", "no model.safetensors"),
        ("model-00002-of-00002.safetensors", "names the shard"),
    ],
)
def test_a_model_folder_that_lacks_a_file_is_refused(
    refused: Refused, tmp_path: Path, multi_head_folder: Path, name: str, said: str
) -> None:
    """Whichever file is missing: it is named before anything is loaded."""
    put(tmp_path / "in", "a.parquet", TWO)
    folder = Path(shutil.copytree(multi_head_folder, tmp_path / "model"))
    (folder / name).unlink()
    assert said in refused("--set", f"models.main.path={folder}")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vocab.json", "not readable as JSON"),
        ("added_tokens.json", "not readable as JSON"),
        ("entity_vocab.json", "not readable"),
        ("luke_batch.json", "not readable as JSON"),
        ("heads.safetensors", "not a whole safetensors file"),
    ],
)
def test_a_model_folder_with_a_damaged_file_is_refused(
    refused: Refused, tmp_path: Path, multi_head_folder: Path, name: str, said: str
) -> None:
    """A file that a full disk has left empty: also one that only the actors read."""
    put(tmp_path / "in", "a.parquet", TWO)
    folder = Path(shutil.copytree(multi_head_folder, tmp_path / "model"))
    (folder / name).write_bytes(b"")
    line = refused("--set", f"models.main.path={folder}")
    assert f"{name}: {said}" in line
    assert "download it again" in line


def test_another_checkpoint_is_refused(refused: Refused, tmp_path: Path, checkpoint_folder: MakeCheckpoint) -> None:
    """No folder, no such head, another architecture, damaged weights: each by its cause."""
    put(tmp_path / "in", "a.parquet", TWO)

    def said(folder: Path) -> str:
        return refused("--set", f"models.main.path={folder}")

    assert "no such model folder" in said(tmp_path / "nowhere")
    assert "has no ner head (it is a LukeModel); it has embeddings" in said(checkpoint_folder(Recipe()))
    types = checkpoint_folder(with_head("types", Recipe()))
    assert "has no ner head (it is a LukeForEntityClassification)" in said(types)
    folder = Path(shutil.copytree(types, tmp_path / "model"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "not a whole safetensors file" in said(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    assert "model_type 'bert'; luke-batch runs LUKE and mLUKE" in said(folder)


def test_a_pickle_is_refused_with_the_way_out(refused: Refused, tmp_path: Path, multi_head_folder: Path) -> None:
    """Weights in pytorch_model.bin alone are not loaded: the line holds the command that converts them."""
    put(tmp_path / "in", "a.parquet", TWO)
    folder = Path(shutil.copytree(multi_head_folder, tmp_path / "model"))
    for path in folder.glob("model*"):
        path.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    assert f"`luke-batch models convert {folder} DST`" in refused("--set", f"models.main.path={folder}")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("input.text_colum=body", "unknown key `input.text_colum`; did you mean `text_column`?"),
        ("heads.1.treshold=0.4", "unknown key `heads.1.treshold`; did you mean `threshold`?"),
        ("heads.0.head=nre", "unknown head `nre`; did you mean `ner`?"),
        ("outptu={}", "unknown key `outptu`; did you mean `output`?"),
        ("heads=[{head: types}]", "`spans: previous` has no head before it that finds mentions"),
        ("heads=[]", "`heads`"),
        ("heads=[{head: embeddings, of: text}, {head: embeddings, of: text}]", "is configured twice"),
        ("heads.0.spans=given", "`spans: given` needs `input.mentions_column`"),
        ("heads.0.spans=gazetteer", "needs `proposers.gazetteer.path`"),
        ("heads.2.pairs=given", "needs `input.relations_column` and `input.mentions_column`"),
        ("heads.0.none_label=O", "has no label 'O' for `none_label`; it has NIL, PER, LOC, ORG"),
        ("heads.1.threshold=1.5", "`heads.1.threshold` should be less than 1"),
        ("output.max_rows=0", "`output.max_rows` should be greater than or equal to 1"),
        ("output.error_budget=-1", "`output.error_budget` should be greater than or equal to 0"),
        ("output.error_budget=few", "`output.error_budget` should be a valid number"),
        ("models.main.actors=none", "`models.main.actors`"),
        ("models.main.num_gpus=-1", "`models.main.num_gpus` should be greater than or equal to 0"),
        ("segmenter.max_characters=1", "`segmenter.max_characters` should be greater than or equal to 16"),
        (
            "proposers.gazetteer.path=/no/such/names.csv",
            "proposers.gazetteer.path /no/such/names.csv cannot be",
        ),
        ("heads.0.threshold", "expected key=value"),
        ("output.max_rows=[", "--set output.max_rows"),
    ],
)
def test_an_impossible_configuration_is_refused(refused: Refused, tmp_path: Path, setting: str, said: str) -> None:
    """Unknown keys suggest the nearest name; values and combinations that cannot work name their key."""
    put(tmp_path / "in", "a.parquet", TWO)
    assert said in refused("--set", setting)


def test_an_unreadable_configuration_is_refused(refused: Refused, tmp_path: Path) -> None:
    """The file is named, and the line where the trouble is."""
    put(tmp_path / "in", "a.parquet", TWO)
    path = tmp_path / "job.yaml"
    assert "job.yaml: cannot read the configuration" in refused("--config", str(path))
    path.write_text("input: {}\ninput: {}\n")
    assert "job.yaml, line 2: key `input` occurs twice" in refused("--config", str(path))
    path.write_text("- a\n- b\n")
    assert "expected sections such as `input:`" in refused("--config", str(path))
    path.write_bytes(b"\xff\xfe")
    assert "not UTF-8 text" in refused("--config", str(path))


def test_an_unfit_gazetteer_is_refused(refused: Refused, tmp_path: Path) -> None:
    """A names table without its column, or of no known kind, is found before Ray starts."""
    put(tmp_path / "in", "a.parquet", TWO)
    names = tmp_path / "names.csv"
    names.write_text("title\nWarsaw\n")
    tables = ["--set", f"proposers.gazetteer.path={names}", "--set", "heads.0.spans=gazetteer"]
    assert "no column 'name'" in refused(*tables)
    other = names.rename(tmp_path / "names.txt")
    assert "no known kind of file" in refused(*tables, "--set", f"proposers.gazetteer.path={other}")
