"""Annotation on Ray: the only room that imports it.

run         a whole run, of what is new or of dead letters, from checks to exit code
planning    checks, fingerprint and plan: what needs neither torch nor Ray
preflight   what would stop a run, looked for before any work: places, cluster, what each node sees
precision   what `precision: auto` stands for; estimate, measurement: what a run will cost, from a sample
cluster     connects to Ray or starts it, and takes the snapshot that `resources` decides on
resources   pure decisions: how many actors a cluster holds, and what it never could
pipeline    the Ray Data pipelines of a wave of work items; stages: what its workers run
wire        a work item as one Ray row; results: what becomes of it, told to the driver and counted there
progress    what a person sees meanwhile; metrics: what Prometheus does
dataset     the same annotation inside someone's own Ray Data pipeline
index       a build of an entity index; finetune: a model of one's own, on Ray Train
"""
