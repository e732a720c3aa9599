"""`luke-batch annotate` for `ray job submit -- python jobs/annotate.py INPUT OUTPUT …`: the same
arguments.
"""

import sys

from luke_batch.cli import main

if __name__ == "__main__":
    main(["annotate", *sys.argv[1:]])
