"""Several mistakes at once: each is noted where it is found, and all are raised together."""

from types import TracebackType

from luke_batch.base.errors import PreflightError, UsageError


class Problems:
    """What a user has to mend before any work can begin, in the order in which it was found."""

    def __init__(self) -> None:
        self.found: list[UsageError] = []

    def __bool__(self) -> bool:
        return bool(self.found)

    def add(self, error: UsageError) -> None:
        """Note an error, or those that it stands for; one that says the same as another is left out."""
        for each in error.problems if isinstance(error, PreflightError) else (error,):
            if str(each) not in {str(known) for known in self.found}:
                self.found.append(each)

    def noted(self) -> "_Noted":
        """A context: a UsageError in it is noted, and what follows it goes on."""
        return _Noted(self)

    @property
    def error(self) -> UsageError:
        """What was noted: the error itself, or one PreflightError for several."""
        return self.found[0] if len(self.found) == 1 else PreflightError(self.found)

    def raise_any(self) -> None:
        """Raise what was noted, if anything was."""
        if self.found:
            raise self.error


class _Noted:
    def __init__(self, problems: Problems) -> None:
        self._problems = problems

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, UsageError):
            return False
        self._problems.add(error)
        return True
