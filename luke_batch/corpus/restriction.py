"""`--where KEY=VALUE`: the part of a hive-partitioned corpus that a run is about."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote

from luke_batch.base.errors import ConfigError, InputError
from luke_batch.corpus.sources import SourceFile

_SHOWN = 10
"""Values that a message lists."""


def partition_values(partition: str) -> dict[str, str]:
    """Key -> value of the folders `key=value/…`, percent-decoded as Hive writers encode them."""
    pairs = (part.partition("=") for part in partition.split("/"))
    return {unquote(key): unquote(value) for key, equals, value in pairs if equals}


@dataclass(frozen=True, slots=True)
class Restriction:
    """Partition keys with the values that are wanted; without any, everything is."""

    wanted: Mapping[str, frozenset[str]] = field(default_factory=lambda: dict[str, frozenset[str]]())

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Self:
        """From `key=value` texts: several values of one key mean any of them, several keys all of them.

        Raises:
            ConfigError: a text is not of that form.
        """
        wanted: dict[str, set[str]] = {}
        for text in texts:
            key, equals, value = text.partition("=")
            if not equals or not key.strip():
                raise ConfigError(f"--where {text}: expected key=value, for example date=2026-11-20")
            wanted.setdefault(key.strip(), set()).add(value)
        return cls({key: frozenset(values) for key, values in wanted.items()})

    def __bool__(self) -> bool:
        return bool(self.wanted)

    def matches(self, partition: str) -> bool:
        """Whether what lies in `partition` (`key=value/…`) is wanted."""
        if not self.wanted:
            return True
        found = partition_values(partition)
        return all(found.get(key) in values for key, values in self.wanted.items())

    def select(self, files: Sequence[SourceFile]) -> tuple[SourceFile, ...]:
        """The wanted ones of INPUT's files.

        Raises:
            InputError: no file has such a key, or none lies in such a partition.
        """
        kept = tuple(file for file in files if self.matches(file.partition))
        if not kept:
            self._explain({file.partition for file in files})
        return kept

    def _explain(self, partitions: set[str]) -> None:
        known: dict[str, set[str]] = {}
        for folders in partitions:
            for key, value in partition_values(folders).items():
                known.setdefault(key, set()).add(value)
        for key, values in self.wanted.items():
            if key not in known:
                others = f"its partition keys are {_listed(known)}" if known else "it has no partitions"
                raise InputError(f"--where {key}=…: INPUT has no partition key {key!r}; {others}")
            if not values & known[key]:
                missing = " or ".join(f"{key}={value}" for value in sorted(values))
                raise InputError(f"--where: INPUT has no partition {missing}; it has {_listed(known[key])}")
        all_of = " and ".join(f"{key}={'|'.join(sorted(values))}" for key, values in self.wanted.items())
        raise InputError(f"--where: no file of INPUT lies in {all_of}; leave one of the keys out")


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + more
