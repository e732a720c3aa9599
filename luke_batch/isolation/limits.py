"""What a child process may take."""

import resource


def limit_memory(most: int) -> None:
    """Let allocations of this process fail beyond `most` bytes: private writable memory, so that mapped checkpoints are
    free.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
