"""Annotation on Ray: the only room that imports it.

resources   pure decisions: how many actors a cluster holds, and what it never could
cluster     connects to Ray or starts it, and takes the snapshot that `resources` decides on
wire        a work item as one Ray row
results     what a worker tells the driver
tasks       read and prepare, commit: light tasks, run as plain functions
actors      a loaded checkpoint as an actor
pipeline    the Ray Data pipelines of a wave of work items
isolation   the last net under a work item
preflight   what would stop a run, looked for before any work; node_probe: what each node sees
tally       what a run has done, counted as results come in; throughput: documents over time
progress    what a person sees meanwhile
locations   where INPUT and OUTPUT may lie
planning    checks, fingerprint and plan: what needs neither torch nor Ray
run         a whole run, from checks to exit code
replay      the same for dead letters
estimate    what a run will cost, from a measurement of a sample
index       a build of an entity index
dataset     the same annotation inside someone's own Ray Data pipeline
"""
