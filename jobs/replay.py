"""`luke-batch replay` for `ray job submit -- python jobs/replay.py OUTPUT …`: the same arguments."""

import sys

from luke_batch.cli import main

if __name__ == "__main__":
    main(["replay", *sys.argv[1:]])
