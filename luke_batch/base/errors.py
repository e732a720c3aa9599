"""Everything that luke-batch raises on purpose.

LukeBatchError                  exit code 1
├── UsageError                  exit code 2: the user can mend it; nothing was written
│   ├── ConfigError             a key, a value or a combination of settings
│   ├── InputError              INPUT, GOLD or ANNOTATED as a whole: no file, no text column, a binary column
│   ├── OutputError             OUTPUT as a whole: not writable, not ours, not reachable by every node
│   ├── LeaseError              another run works on OUTPUT
│   ├── CheckpointError         a model folder: missing file, other architecture, unsafe format
│   ├── ResourceError           a pipeline that could never be scheduled, or too little space
│   ├── PreflightError          several of these, found before any work
│   └── MissingDependencyError  an optional library; the message holds the pip command
├── DocumentError               one document cannot be annotated: it goes to the dead letters
│   ├── HangError               work on it makes no progress
│   └── CrashError              the process that works on it dies
├── FragmentError               one file or fragment cannot be read: one dead letter without a row
├── DeviceError                 a GPU that no longer answers: the process that uses it is lost
├── ContractError               our own output breaks its schema or its offsets: a defect of luke-batch
└── IncompleteError             exit code 4: some fragments are not committed

A message is one line that names the thing, the cause and the cure.
"""

from collections.abc import Sequence


class LukeBatchError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1


class UsageError(LukeBatchError):
    """Bad usage, configuration or input as a whole."""

    exit_code = 2


class ConfigError(UsageError):
    """A key, a value or a combination of settings that cannot be used."""


class InputError(UsageError):
    """INPUT as a whole cannot be used; in an evaluation GOLD or ANNOTATED."""


class OutputError(UsageError):
    """OUTPUT as a whole cannot be used."""


class LeaseError(UsageError):
    """Another run works on OUTPUT."""


class CheckpointError(UsageError):
    """A model folder cannot be used."""


class ResourceError(UsageError):
    """The pipeline could never be scheduled on these resources, or there is too little space."""


class MissingDependencyError(UsageError):
    """An optional library is not installed."""


class PreflightError(UsageError):
    """Several problems that were found before any work; `problems` has each as an error of its own."""

    def __init__(self, problems: Sequence[UsageError]) -> None:
        super().__init__(f"{len(problems)} problems: " + "; ".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class DocumentError(LukeBatchError):
    """One document cannot be annotated; `stage` says where in the pipeline it failed."""

    def __init__(self, message: str, stage: str) -> None:
        super().__init__(message)
        self.stage = stage


class HangError(DocumentError):
    """A document at which work makes no progress."""


class CrashError(DocumentError):
    """A document at which the process that works on it dies."""


class FragmentError(LukeBatchError):
    """One file or fragment cannot be read."""


class DeviceError(LukeBatchError):
    """An accelerator no longer answers this process, whatever it is asked."""


class ContractError(LukeBatchError):
    """An output table breaks its contract; nothing of it is committed."""


class IncompleteError(LukeBatchError):
    """The run ended with fragments that are not committed."""

    exit_code = 4
