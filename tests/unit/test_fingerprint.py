"""What changes the fingerprint, and what does not: a decision for every field of the configuration."""

from collections.abc import Iterator
from typing import get_args

import pytest
from pydantic import BaseModel

from luke_batch.config import JobConfig
from luke_batch.config import fingerprint as module
from luke_batch.config.fingerprint import (
    ALIASES_FACT,
    GAZETTEER_FACT,
    describe,
    fingerprint,
    weights_fact,
)
from luke_batch.config.loading import load_config
from luke_batch.heads.head import HeadConfig
from luke_batch.heads.registry import HEADS, known_heads
from luke_batch.heads.types import TypesHead

_PLAIN = ("types", "relations", "links", "embeddings", "sequence", "tokens")
_HEADS = [
    "{head: ner, spans: [auto, gazetteer]}",
    *(f"{{head: {name}}}" for name in _PLAIN),
    "{head: qa, questions: [a]}",
    "{head: choice, candidates: [a]}",
    "{head: cloze, template: '[Y]'}",
]
_BASE = [
    "input.mentions_column=m",
    "input.relations_column=r",
    "proposers.gazetteer={path: names.csv}",
    "models={main: {path: a}, same: {path: b}}",
    f"heads=[{', '.join(_HEADS)}]",
]
_FACTS = {
    weights_fact("a"): "1",
    weights_fact("b"): "1",
    weights_fact("c"): "2",
    GAZETTEER_FACT: "3",
    ALIASES_FACT: "4",
}

# Field -> (an assignment that changes it, does it change the fingerprint). A field with one legal value has
# none.
_DECISIONS: dict[str, tuple[str, bool]] = {
    "InputConfig.id_column": ("input.id_column=key", True),
    "InputConfig.text_column": ("input.text_column=body", True),
    "InputConfig.lang_column": ("input.lang_column=lang", True),
    "InputConfig.mentions_column": ("input.mentions_column=x", True),
    "InputConfig.relations_column": ("input.relations_column=x", True),
    "SegmenterConfig.name": ("", True),
    "SegmenterConfig.max_characters": ("segmenter.max_characters=500", True),
    "GazetteerConfig.path": ("proposers.gazetteer.path=moved.csv", False),  # the content counts
    "GazetteerConfig.content_hash": ("proposers.gazetteer.content_hash=abc", False),  # the same
    "GazetteerConfig.column": ("proposers.gazetteer.column=x", True),
    "GazetteerConfig.case": ("proposers.gazetteer.case=fold", True),
    "ProposerConfig.max_words": ("proposers.max_words=3", True),
    "ProposerConfig.gazetteer": ("proposers.gazetteer={path: names.csv, column: x}", True),
    "ModelConfig.path": ("models.main.path=b", False),  # the content counts
    "ModelConfig.engine": ("", False),  # engines are equal by contract; there is one as yet
    "ModelConfig.precision": ("models.main.precision=bfloat16", True),
    "ModelConfig.device": ("models.main.device=cuda", False),
    "ModelConfig.max_tokens": ("models.main.max_tokens=2048", False),
    "ModelConfig.actors": ("models.main.actors=2", False),
    "ModelConfig.num_cpus": ("models.main.num_cpus=2", False),
    "ModelConfig.num_gpus": ("models.main.num_gpus=1", False),
    "ModelConfig.add_prefix_space": ("models.main.add_prefix_space=true", True),
    "ModelConfig.weights_hash": ("models.main.weights_hash=abc", False),  # the content counts
    "NerConfig.head": ("heads=[{head: types, spans: auto}]", True),
    "NerConfig.model": ("heads.0.model=same", False),  # the content counts
    "NerConfig.context": ("heads.0.context=document", True),
    "NerConfig.spans": ("heads.0.spans=all", True),
    "NerConfig.decode": ("heads.0.decode=nested", True),
    "NerConfig.threshold": ("heads.0.threshold=0.5", True),
    "NerConfig.none_label": ("heads.0.none_label=O", True),
    "RelationsConfig.input": ("heads.2.input=joint", True),
    "EmbeddingsConfig.text_from": ("heads.4.text_from=own", True),
    "TypesConfig.input": ("heads.1.input=marked", True),
    "TypesConfig.head": ("heads=[{head: ner}]", True),
    "TypesConfig.model": ("heads.1.model=same", False),
    "TypesConfig.context": ("heads.1.context=document", True),
    "TypesConfig.spans": ("heads.1.spans=[previous, given]", True),
    "TypesConfig.threshold": ("heads.1.threshold=0.6", True),
    "TypesConfig.multi_label": ("heads.1.multi_label=true", True),
    "RelationsConfig.head": ("heads=[{head: ner}]", True),
    "RelationsConfig.model": ("heads.2.model=same", False),
    "RelationsConfig.context": ("heads.2.context=document", True),
    "RelationsConfig.spans": ("heads.2.spans=given", True),
    "RelationsConfig.pairs": ("heads.2.pairs=given", True),
    "RelationsConfig.max_pairs": ("heads.2.max_pairs=8", True),
    "RelationsConfig.threshold": ("heads.2.threshold=0.6", True),
    "RelationsConfig.consistent": ("heads.2.consistent=false", True),
    "RelationsConfig.multi_label": ("heads.2.multi_label=false", True),
    "RelationsConfig.none_label": ("heads.2.none_label=none", True),
    "EmbeddingsConfig.head": ("heads=[{head: ner}]", True),
    "EmbeddingsConfig.model": ("heads.4.model=same", False),
    "EmbeddingsConfig.context": ("heads.4.context=document", True),
    "EmbeddingsConfig.spans": ("heads.4.spans=given", True),
    "EmbeddingsConfig.of": ("heads.4.of=text", True),
    "EmbeddingsConfig.joint": ("heads.4.joint=false", True),
    "EmbeddingsConfig.dtype": ("heads.4.dtype=float16", True),
    "EmbeddingsConfig.with_entities": ("heads.4.with_entities=true", True),
    "EmbeddingsConfig.normalized": ("heads.4.normalized=true", True),
    "EmbeddingsConfig.title_language": ("heads.4.title_language=ja", True),
    "LinksConfig.head": ("heads=[{head: ner}]", True),
    "LinksConfig.model": ("heads.3.model=same", False),
    "LinksConfig.context": ("heads.3.context=document", True),
    "LinksConfig.spans": ("heads.3.spans=alias", True),
    "LinksConfig.candidates": ("heads.3.candidates=given", True),
    "LinksConfig.max_candidates": ("heads.3.max_candidates=5", True),
    "LinksConfig.rounds": ("heads.3.rounds=all", True),
    "LinksConfig.prior_weight": ("heads.3.prior_weight=0.5", True),
    "LinksConfig.threshold": ("heads.3.threshold=0.5", True),
    "LinksConfig.title_language": ("heads.3.title_language=ja", True),
    "SequenceConfig.head": ("heads=[{head: ner}]", True),
    "SequenceConfig.model": ("heads.5.model=same", False),
    "SequenceConfig.multi_label": ("heads.5.multi_label=true", True),
    "SequenceConfig.regression": ("heads.5.regression=true", True),
    "SequenceConfig.threshold": ("heads.5.threshold=0.6", True),
    "TokensConfig.head": ("heads=[{head: ner}]", True),
    "TokensConfig.model": ("heads.6.model=same", False),
    "TokensConfig.scheme": ("heads.6.scheme=iob", True),
    "TokensConfig.none_label": ("heads.6.none_label=X", True),
    "TokensConfig.stride": ("heads.6.stride=64", True),
    "QaConfig.head": ("heads=[{head: ner}]", True),
    "QaConfig.model": ("heads.7.model=same", False),
    "QaConfig.questions": ("heads.7.questions=[b]", True),
    "QaConfig.question_column": ("heads.7.question_column=q", True),
    "QaConfig.n_best": ("heads.7.n_best=3", True),
    "QaConfig.max_answer_tokens": ("heads.7.max_answer_tokens=5", True),
    "QaConfig.stride": ("heads.7.stride=64", True),
    "QaConfig.no_answer": ("heads.7.no_answer=true", True),
    "QaConfig.no_answer_margin": ("heads.7.no_answer_margin=1", True),
    "ChoiceConfig.head": ("heads=[{head: ner}]", True),
    "ChoiceConfig.model": ("heads.8.model=same", False),
    "ChoiceConfig.candidates": ("heads.8.candidates=[b]", True),
    "ChoiceConfig.candidates_column": ("heads.8={head: choice, candidates_column: c}", True),
    "ChoiceConfig.question_column": ("heads.8.question_column=q", True),
    "ChoiceConfig.stride": ("heads.8.stride=64", True),
    "ClozeConfig.head": ("heads=[{head: ner}]", True),
    "ClozeConfig.model": ("heads.9.model=same", False),
    "ClozeConfig.template": ("heads.9.template='[Y]!'", True),
    "ClozeConfig.template_column": ("heads.9={head: cloze, template_column: t}", True),
    "ClozeConfig.subject_column": ("heads.9.subject_column=s", True),
    "ClozeConfig.candidates": ("heads.9.candidates=[b]", True),
    "ClozeConfig.candidates_column": ("heads.9.candidates_column=c", True),
    "ClozeConfig.of": ("heads.9.of=entities", True),
    "ClozeConfig.best": ("heads.9.best=1", True),
    "ClozeConfig.title_language": ("heads.9.title_language=ja", True),
    "AliasConfig.path": ("proposers.aliases.path=moved.parquet", False),  # the content counts
    "AliasConfig.content_hash": ("proposers.aliases.content_hash=abc", False),  # the same
    "AliasConfig.min_prior": ("proposers.aliases.min_prior=0.1", True),
    "ProposerConfig.aliases": ("proposers.aliases.min_prior=0.1", True),
    "OutputConfig.max_rows": ("output.max_rows=5", False),
    "OutputConfig.max_bytes": ("output.max_bytes=5000", False),
    "OutputConfig.compression": ("output.compression=none", False),
    "OutputConfig.error_budget": ("output.error_budget=5", False),
    "OutputConfig.drift_limit": ("output.drift_limit=0.2", False),
    "OutputConfig.on_vanished": ("output.on_vanished=prune", False),
    "OutputConfig.drift_baseline": ("output.drift_baseline=a-run", False),
    "OutputConfig.vanished_limit": ("output.vanished_limit=0.9", False),
    "OutputConfig.lease_seconds": ("output.lease_seconds=5", False),
    "OutputConfig.shared": ("output.shared=true", False),
    "JobConfig.input": ("input.text_column=body", True),
    "JobConfig.segmenter": ("segmenter.max_characters=500", True),
    "JobConfig.proposers": ("proposers.max_words=3", True),
    "JobConfig.models": ("models.main.path=c", True),
    "JobConfig.heads": ("heads=[{head: ner}]", True),
    "JobConfig.output": ("output.max_rows=5", False),
    "IsolationConfig.seconds": ("isolation.seconds=5", False),
    "IsolationConfig.memory_gb": ("isolation.memory_gb=5", False),
    "JobConfig.isolation": ("isolation.seconds=5", False),
}


def _sections(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation is HeadConfig:
            for head in HEADS:
                yield from _sections(head.settings)
            return
        yield annotation
        for field in annotation.model_fields.values():
            yield from _sections(field.annotation)
    for argument in get_args(annotation):
        yield from _sections(argument)


def _fields() -> set[str]:
    return {f"{section.__name__}.{name}" for section in _sections(JobConfig) for name in section.model_fields}


def _fingerprint(*assignments: str) -> str:
    return fingerprint(load_config(None, [*_BASE, *assignments]), _FACTS)


def test_every_field_has_a_decision() -> None:
    """A new field must be added to the table above, with a thought about whether it changes results."""
    assert _fields() == set(_DECISIONS)


@pytest.mark.parametrize("field", sorted(field for field, (assignment, _) in _DECISIONS.items() if assignment))
def test_a_field_changes_the_fingerprint_as_decided(field: str) -> None:
    """What changes results changes the fingerprint, and nothing else does."""
    assignment, changes = _DECISIONS[field]
    config = load_config(None, [*_BASE, assignment])
    assert config != load_config(None, _BASE), "the assignment must change the field"
    assert (_fingerprint(assignment) != _fingerprint()) is changes


def test_a_fingerprint_is_twelve_hexadecimal_characters_and_stays_the_same() -> None:
    """It becomes part of file names, and two runs of one job must agree on it."""
    first, second = _fingerprint(), _fingerprint()
    assert first == second
    assert len(first) == 12
    assert set(first) <= set("0123456789abcdef")


def test_the_content_of_checkpoints_and_gazetteer_counts() -> None:
    """New weights or names under an old path are new results."""
    config = load_config(None, _BASE)
    known = fingerprint(config, _FACTS)
    assert fingerprint(config, {**_FACTS, weights_fact("a"): "new"}) != known
    assert fingerprint(config, {**_FACTS, GAZETTEER_FACT: "new"}) != known
    assert fingerprint(config, {**_FACTS, weights_fact("b"): "new"}) == known, "no head uses b"


def test_a_missing_fact_is_an_error() -> None:
    """A fingerprint must not be made without knowing the weights."""
    with pytest.raises(KeyError, match="weights:embedded"):
        fingerprint(JobConfig(), {})


def test_the_versions_of_the_annotators_in_use_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raising a head's version redoes the jobs that have this head, and no others."""
    ner_only = "heads=[{head: ner}]"
    everything, ner = _fingerprint(), _fingerprint(ner_only)
    monkeypatch.setattr(TypesHead, "version", TypesHead.version + 1)
    assert _fingerprint() != everything
    assert _fingerprint(ner_only) == ner


@pytest.mark.parametrize(
    "name",
    [
        *(f"luke_batch.text.{name}" for name in ("segmenter.VERSION", "words.VERSION", "words.SPANS_VERSION")),
        "luke_batch.text.names.gazetteer.GazetteerProposer.version",
        "luke_batch.text.words.LIBRARY_VERSION",
        "unicodedata.unidata_version",
    ],
)
def test_the_versions_of_the_text_stages_count(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A constant that is raised beside its code, another ICU, and Python's own Unicode data."""
    before, without_names = _fingerprint(), _fingerprint("heads.0.spans=auto")
    monkeypatch.setattr(name, "another")
    assert _fingerprint() != before
    assert (_fingerprint("heads.0.spans=auto") == without_names) is ("gazetteer" in name)


def test_every_head_has_a_version() -> None:
    """A head without a version could not be told to have changed."""
    assert all(head.version >= 1 for head in HEADS)
    assert {head.settings.model_fields["head"].default for head in HEADS} == set(known_heads())


def test_the_versions_of_the_text_libraries_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another sentencex or ICU may cut texts elsewhere."""
    before = _fingerprint()
    monkeypatch.setattr(module, "version", lambda name: f"another {name}")
    assert _fingerprint() != before


def test_what_is_hashed_holds_no_path_of_this_machine() -> None:
    """The manifest carries the description, and a moved model folder must not change it."""
    described = describe(load_config(None, [*_BASE, "models.main.path=c"]), _FACTS)
    assert "'path'" not in str(described)
    assert "names.csv" not in str(described)
