"""Where things lie under OUTPUT; paths are relative to it."""

DATA = "data"
DEAD_LETTERS = "_dead_letters"
STATE = "_luke_batch"
RUNS = f"{STATE}/runs"
TEMPORARY = f"{STATE}/part"
LEASES = f"{STATE}/lease"
FOOTERS = f"{STATE}/footers.arrow"
FOREIGN = "_foreign"


def join(*parts: str) -> str:
    """Path of the parts that are not empty."""
    return "/".join(part for part in parts if part)


def base_name(path: str) -> str:
    """What follows the last slash."""
    return path.rpartition("/")[2]
