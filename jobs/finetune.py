"""`luke-batch finetune` for `ray job submit -- python jobs/finetune.py TRAIN OUTPUT_MODEL …`: the same arguments.

Where the cluster asks for a token, `export RAY_AUTH_MODE=token` before that.
"""

import sys

from luke_batch.cli import main

if __name__ == "__main__":
    main(["finetune", *sys.argv[1:]])
