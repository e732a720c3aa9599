"""Entity embedding indexes: one vector for each entity of an annotated corpus, kept up to date night by night.

settings    what is an entity, and how its vectors are searched
keys        mentions -> entity keys; names as they are compared
mentions    a table of annotated documents -> mentions that have a key and a vector
counts      counted strings (aliases, labels, languages) of groups, in NumPy
partials    mentions of one fragment -> one row for each of its entities
packs       rows of partials in files, sorted by entity
repacking   many small files of them into few
merge       live partials of some entities -> their rows of the entity table
sources     annotated outputs: their fragments, and the model that made their vectors
plan        what changed since the last version, and into how many buckets the entities go
tasks       the work of a build in independent tasks
runners     what runs them: this process, or Ray
making      the version that a build makes, step by step
build       a whole build, whoever runs the tasks
versions    the folder of an index: versions, and the link that names the current one
manifest    what a version says of itself
entities    reads the entity table of a version
vectors     what an index over the vectors must do; `lance_vectors` and `faiss_vectors` do it
recall      recall@10 of the vector index against exact search
search      the Python API: names, marked texts and vectors in, entities out
"""
