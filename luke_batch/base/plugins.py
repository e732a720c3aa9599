"""What other packages bring: classes that they name as entry points."""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from luke_batch.base.errors import ConfigError

Base = TypeVar("Base")


@cache
def load_plugins(group: str, base: type[Base]) -> tuple[type[Base], ...]:
    """The classes below `base` that installed packages name in the entry point group.

    Looked for once a process. Raises ConfigError where one cannot be imported, is no such class, or does not state the
    `interface` that `base` has now.
    """
    return tuple(_loaded(entry, base) for entry in entry_points(group=group))


def _loaded(entry: EntryPoint, base: Any) -> Any:
    package = "a package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
    where = f"entry point {entry.name} of {package}"
    try:
        found: Any = entry.load()
    except Exception as error:
        raise ConfigError(
            f"{where}: {entry.value} cannot be imported ({error}); update or remove the package"
        ) from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(f"{where}: {entry.value} is no {base.__name__}; update or remove the package")
    stated = next(
        (vars(each)["interface"] for each in found.__mro__ if each is not base and "interface" in vars(each)), None
    )
    if stated != base.interface:
        raise ConfigError(
            f"{where}: made for interface {stated} of luke-batch's {base.__name__}, but this luke-batch has"
            f" {base.interface} (the class must state `interface = {base.interface}`); update the package or luke-batch"
        )
    return found
