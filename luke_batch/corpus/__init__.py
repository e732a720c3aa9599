"""Plan, read, commit: Parquet corpora in local folders and object stores. No model, no Ray.

The parts, in the order in which a run needs them:

    sources, footers, checks   what INPUT holds, and which of its files can be used
    fragments, keys, plan      how it is cut, how an output file is named, what is left to do
    read                       work item -> one Arrow table, with `columns` naming the internal ones
    commit, dead_letters       annotated table -> one output file a fragment
    outcome, sweep, manifest   what a run has reached
    reader                     committed rows as one dataset
"""
