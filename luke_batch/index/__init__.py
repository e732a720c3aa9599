"""Entity embedding indexes: one vector for each entity of an annotated corpus, kept up to date night by night.

settings    what is an entity, and how its vectors are searched
keys        mentions -> entity keys; names as they are compared
groups      counted strings (aliases, labels, languages) and sums of vectors of groups, in NumPy
partials    annotated documents -> mentions that have a key and a vector -> one row for each entity of a fragment
sources     annotated outputs: their fragments, and the model that made their vectors
packs       rows of partials in files, sorted by entity; many small files of them into few
merge       live partials of some entities -> their rows of the entity table
versions    the folder of an index: versions, what each says of itself, and the link that names the current one
entities    the entity table of a version: its files, names, and rows by id
plan        what changed since the last version, and into how many buckets the entities go
vectors     the Lance table of vectors: made, brought up to date, searched
recall      recall@10 of the vector index against exact search
tasks       the work of a build in independent tasks
build       a whole build, step by step, and what runs its tasks in this process
search      the Python API: names, marked texts and vectors in, entities out
"""
