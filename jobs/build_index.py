"""`luke-batch index build` for `ray job submit -- python jobs/build_index.py ANNOTATED INDEX …`: the same arguments.

Where the cluster asks for a token, `export RAY_AUTH_MODE=token` before that.
"""

import sys

from luke_batch.cli import main

if __name__ == "__main__":
    main(["index", "build", *sys.argv[1:]])
