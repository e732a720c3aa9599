"""Plan, read, commit: Parquet corpora in local folders and object stores. No model, no Ray.

The parts, in the order in which a run needs them:

    storage, access            a folder, local or remote; whether OUTPUT takes files
    sources, footers, checks   what INPUT holds, which partitions are meant, which files can be used
    output_file, committed     what one committed file says of itself; what OUTPUT holds
    fragments, plan            how INPUT is cut, what is left to do
    lease                      one run at a time on one OUTPUT
    read                       work item -> one Arrow table, with `columns` naming the internal ones
    commit, verify, dead_letters   annotated table -> one output file a fragment
    attempts                   of several attempts at one output file the first whole one stays
    outcome, manifest          what a run has reached, and what the next one may expect
    leftovers                  what a run has superseded, and how it is taken away
    statistics, drift          labels in numbers, and how they differ from the run before
    reader                     committed rows as one dataset
    compaction                 fewer, larger output files
    replay                     the part of a plan that has dead letters
    sample                     how much INPUT holds, and a part of it that speaks for the whole
"""
