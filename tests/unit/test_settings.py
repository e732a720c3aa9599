"""Where configuration values come from, and what is said about wrong ones."""

import copy
from pathlib import Path

import pytest

from luke_batch.base.errors import ConfigError
from luke_batch.config import JobConfig, NerConfig, TypesConfig
from luke_batch.config.loading import load_config


def _file(folder: Path, text: str) -> str:
    path = folder / "job.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_no_settings_give_the_defaults() -> None:
    """A job runs with no configuration at all."""
    assert load_config() == JobConfig()


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "{}"])
def test_an_empty_file_gives_the_defaults(tmp_path: Path, text: str) -> None:
    """A file without settings changes nothing."""
    assert load_config(_file(tmp_path, text)) == JobConfig()


def test_assignments_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    """YAML < environment < --set, and what a layer does not name it leaves alone."""
    path = _file(tmp_path, "input: {text_column: file, id_column: file, lang_column: file}")
    environment = {"LUKE_BATCH__INPUT__TEXT_COLUMN": "env", "LUKE_BATCH__INPUT__ID_COLUMN": "env"}
    config = load_config(path, ["input.text_column=set"], environment)
    assert (config.input.text_column, config.input.id_column, config.input.lang_column) == (
        "set",
        "env",
        "file",
    )


def test_other_environment_variables_are_none_of_our_business() -> None:
    """Only names with the prefix LUKE_BATCH__ are settings."""
    assert load_config(None, [], {"LUKE_BATCH_DEBUG": "1", "PATH": "/bin", "luke_batch__x": "1"}) == JobConfig()


def test_the_environment_reaches_names_in_mixed_case(tmp_path: Path) -> None:
    """A variable in upper case changes the model `Big`, and makes no second one."""
    path = _file(tmp_path, "models: {Big: {path: some/model}}")
    config = load_config(path, [], {"LUKE_BATCH__MODELS__BIG__NUM_CPUS": "3"})
    assert config.models["Big"].num_cpus == 3
    assert set(config.models) == {"main", "Big"}


def test_an_index_changes_one_head_of_the_defaults() -> None:
    """`heads.1.threshold=0.4` leaves the other heads and settings as they are."""
    config = load_config(None, ["heads.1.threshold=0.4"])
    assert isinstance(config.heads[1], TypesConfig)
    assert config.heads[1].threshold == 0.4
    assert [head.head for head in config.heads] == [head.head for head in JobConfig().heads]


def test_an_index_behind_the_last_adds_an_element() -> None:
    """The index one behind the end appends; its other keys follow."""
    config = load_config(None, ["heads=[{head: ner}]", "heads.1.head=types", "heads.1.threshold=0.2"])
    assert config.heads == [NerConfig(), TypesConfig(threshold=0.2)]


def test_a_list_is_replaced_and_a_section_merged(tmp_path: Path) -> None:
    """A list in a later layer stands for the whole list."""
    path = _file(tmp_path, "heads: [{head: ner, decode: nested}]\noutput: {max_rows: 5, compression: none}")
    config = load_config(path, ["heads=[{head: ner}]", "output={max_rows: 7}"])
    assert config.heads == [NerConfig()]
    assert (config.output.max_rows, config.output.compression) == (7, "none")


def test_a_section_that_is_null_by_default_can_be_set_key_by_key() -> None:
    """`proposers.gazetteer` does not exist until one of its keys is set."""
    config = load_config(None, ["proposers.gazetteer.path=names.csv", "proposers.gazetteer.case=fold"])
    assert config.proposers.gazetteer is not None
    assert config.proposers.gazetteer.case == "fold"


def test_a_number_with_leading_zeros_is_decimal() -> None:
    """As YAML 1.2 has it; 0100 was read as octal, 64."""
    assert load_config(None, ["output.max_rows=0100"]).output.max_rows == 100


def test_the_base_of_a_configuration_is_left_alone() -> None:
    """What a manifest says of a run is the same after it was the base of another one."""
    base = {"models": {"big": {"path": "a"}}, "heads": [{"head": "ner"}]}
    before = copy.deepcopy(base)
    load_config(None, ["models.big.num_cpus=2", "heads.0.decode=nested"], base=base)
    assert base == before


@pytest.mark.parametrize("name", ["no", "on", "yes", "off", "12:30", "2024-01-01", "0x1F", "1_000", "~x"])
def test_names_that_old_yaml_would_change_stay_names(name: str) -> None:
    """A column may be called `no`; only true and false are booleans, and there are no dates."""
    assert load_config(None, [f"input.text_column={name}"]).input.text_column == name


def test_values_are_typed_as_yaml() -> None:
    """Numbers, booleans, lists and null are what they look like."""
    assignments = [
        "output.max_rows=10",
        "output.shared=true",
        "models.main.num_gpus=.5",
        "models.main.num_cpus=1e-1",
        "heads.3.of=[text]",
        "input.id_column=",
        "input.lang_column=null",
    ]
    config = load_config(None, assignments)
    assert (config.output.max_rows, config.output.shared, config.models["main"].num_gpus) == (10, True, 0.5)
    assert (config.models["main"].num_cpus, config.input.id_column) == (0.1, None)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("input.text_colum=x", "unknown key `input.text_colum`; did you mean `text_column`?"),
        ("inputs.id_column=x", "unknown key `inputs`; did you mean `input`?"),
        ("heads.1.treshold=0.5", "unknown key `heads.1.treshold`; did you mean `threshold`?"),
        ("models.main.num_cpu=1", "unknown key `models.main.num_cpu`; did you mean `num_cpus`?"),
        ("models.big.enigne=x", "unknown key `models.big.enigne`; did you mean `engine`?"),
        (
            "proposers.gazetteer={path: a, colunm: b}",
            "unknown key `proposers.gazetteer.colunm`; did you mean `column`?",
        ),
        (
            "segmenter.zzz=1",
            "unknown key `segmenter.zzz`; known here: max_characters, name",
        ),
        ("heads.0.head=nre", "`heads.0.head`: unknown head `nre`; did you mean `ner`?"),
        (
            "heads.0={head: zzz}",
            "`heads.0.head`: unknown head `zzz`; known here: choice, cloze,",
        ),
        ("heads=[{spans: all}]", "`heads.0` needs `head:`; it says which head this is"),
        ("heads=[]", "`heads` list should have at least 1 item after validation, not 0"),
        ("heads.1.threshold=2", "`heads.1.threshold` should be less than 1"),
        (
            "models.main.actors=many",
            "`models.main.actors` should be 'auto', or should be a valid integer",
        ),
        (
            "heads.0.spans=foo",
            "`heads.0.spans` should be 'auto', 'all', 'gazetteer', 'alias', 'given' or 'previous'",
        ),
        ("proposers.gazetteer.column=x", "`proposers.gazetteer.path` is missing"),
        ("input=3", "`input` should be a section: keys and values of its own"),
        ("input.text_column={}", "`input.text_column` should be a valid string"),
        ("heads.9.threshold=1", "--set heads.9.threshold: `9` must be an index from 0 to 4 here"),
        ("heads.ner.threshold=1", "--set heads.ner.threshold: `ner` must be an index from 0 to 4 here"),
        ("input.text_column.x=1", "--set input.text_column.x: nothing can be set under a single value (`x`)"),
        ("nonsense", "--set nonsense: expected key=value, for example `--set heads.0.threshold=0.4`"),
        ("=1", "--set : expected key=value, for example `--set heads.0.threshold=0.4`"),
        ("a=[1", "--set a, line 1: expected ',' or ']', but got '<stream end>'"),
        ("a={b: 1, b: 2}", "--set a, line 1: key `b` occurs twice"),
        ("a=!!python/object:os.system x", "--set a, line 1: could not determine a constructor for the tag"),
    ],
)
def test_a_wrong_assignment_is_named_in_one_line(assignment: str, message: str) -> None:
    """The line names the dotted key, what is wrong, and the nearest known name."""
    with pytest.raises(ConfigError) as caught:
        load_config(None, [assignment])
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("input:\n  text_column: a\n  text_column: b\n", ", line 3: key `text_column` occurs twice"),
        ("input: [\n", ", line 2: expected the node content, but found '<stream end>'"),
        ("- ner\n", ": expected sections such as `input:` and `heads:`, not a list"),
        ("ner\n", ": expected sections such as `input:` and `heads:`, not a single value"),
        ("a: \x00", ": not YAML: unacceptable character #x0000: special characters are not allowed"),
    ],
)
def test_a_file_that_is_no_configuration_is_named_with_the_line(tmp_path: Path, text: str, message: str) -> None:
    """Syntax errors and duplicate keys tell file and line."""
    path = _file(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == path + message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing files, folders and binary files are one line each."""
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for path, reason in (
        (tmp_path / "no", "No such file"),
        (tmp_path, "Is a directory"),
        (binary, "not UTF-8"),
    ):
        with pytest.raises(ConfigError, match=f"cannot read the configuration: {reason}"):
            load_config(str(path))


def test_all_wrong_keys_are_named_at_once() -> None:
    """A user mends a file once, not key by key."""
    with pytest.raises(ConfigError, match=r"^`input.id_column` .*; unknown key `x`"):
        load_config(None, ["input.id_column=5", "x=1"])


def test_values_never_appear_in_a_message() -> None:
    """A path may carry a password."""
    secret = "s3://user:hunter2@bucket"
    for assignment in (f"models.main.actors={secret}", f"heads.0.decode={secret}", f"models.main={secret}"):
        with pytest.raises(ConfigError) as caught:
            load_config(None, [assignment])
        assert "hunter2" not in str(caught.value)


def test_a_combination_that_cannot_work_is_refused(tmp_path: Path) -> None:
    """The model's own checks come through as they are."""
    with pytest.raises(ConfigError, match="`spans: previous` has no head before it"):
        load_config(_file(tmp_path, "heads: [{head: types}]"))
