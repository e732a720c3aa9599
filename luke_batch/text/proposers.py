"""Which proposers there are: our own, and those of other packages, which name them as entry points of the group
`luke_batch.proposers`.
"""

from typing import Any

from pydantic import ConfigDict, Field, model_validator

from luke_batch.base.plugins import load_plugins
from luke_batch.base.section import Section
from luke_batch.text.names.aliases import AliasConfig, AliasProposer
from luke_batch.text.names.gazetteer import GazetteerConfig, GazetteerProposer
from luke_batch.text.proposer import Proposer

PROPOSERS: tuple[type[Proposer], ...] = (GazetteerProposer, AliasProposer)

_known: dict[str, type[Proposer]] = {}


def register(proposer: type[Proposer]) -> None:
    """Make a proposer known to every configuration that is loaded from now on."""
    _known[proposer.name] = proposer


def known_proposers() -> dict[str, type[Proposer]]:
    """All proposers by their names. Raises ConfigError where one of another package cannot be used."""
    for proposer in load_plugins("luke_batch.proposers", Proposer):
        register(proposer)
    return _known


def proposer_modules() -> set[str]:
    """The modules of proposers that are not ours."""
    return {proposer.__module__ for proposer in _known.values() if proposer not in PROPOSERS}


def check_proposer(name: str) -> str:
    """ValueError where `spans` can name no such thing: beside proposers, runs of words and mentions that are there."""
    names = ["auto", "all", *known_proposers(), "given", "previous"]
    if name not in names:
        raise ValueError(f"should be {', '.join(map(repr, names[:-1]))} or {names[-1]!r}")
    return name


class ProposerConfig(Section):
    """Limits and tables of the span proposers; one of another package has a section with its name."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"additionalProperties": False})

    max_words: int | None = Field(default=None, ge=1, le=64)
    """Longest span of `all` and `auto` in words; null: what the checkpoint was trained with, else 16."""
    gazetteer: GazetteerConfig | None = None
    """Needed by `spans: gazetteer`."""
    aliases: AliasConfig = AliasConfig()
    """Used by `spans: alias`, and by `links` for its candidates."""

    @model_validator(mode="before")
    @classmethod
    def _sections(cls, values: Any) -> Any:
        """Sections of proposers of other packages are read by their own settings; other keys are unknown."""
        if not isinstance(values, dict):
            return values
        read = dict(values)
        for proposer in known_proposers().values():
            if proposer.section in values and proposer not in PROPOSERS:
                read[proposer.section] = proposer.settings.model_validate(values[proposer.section])
        return read

    @model_validator(mode="after")
    def _known_sections(self) -> "ProposerConfig":
        sections = {proposer.section for proposer in known_proposers().values()}
        unknown = set(self.model_extra or {}) - sections
        if unknown:
            raise ValueError(f"unknown key `{min(unknown)}`; known here: {', '.join(sorted({'max_words', *sections}))}")
        return self

    def of(self, proposer: type[Proposer]) -> Section | None:
        """The settings of a proposer; its defaults where it has none and needs none."""
        found = getattr(self, proposer.section, None)
        if found is None and proposer not in PROPOSERS:
            return proposer.settings()
        return found


for _proposer in PROPOSERS:
    register(_proposer)
