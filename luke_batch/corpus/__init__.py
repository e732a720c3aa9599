"""Plan, read, commit: Parquet corpora in local folders and object stores. No model, no Ray.

The parts, in the order in which a run needs them:

    sources, footers, checks   what INPUT holds, and which of its files can be used
    restriction, known_footers which partitions are meant, and what earlier nights know of their files
    fragments, keys, plan      how it is cut, how an output file is named, what is left to do
    lease                      one run at a time on one OUTPUT
    read                       work item -> one Arrow table, with `columns` naming the internal ones
    commit, dead_letters       annotated table -> one output file a fragment
    outcome, sweep, manifest   what a run has reached
    generations, reader        committed rows as one dataset
    compaction                 fewer, larger output files
    replay                     the part of a plan that has dead letters
    forecast                   how long a plan will take, and what it took
    sample                     how much INPUT holds, and a part of it that speaks for the whole
"""
