"""Documents that hang, exhaust memory or kill their process, kept from touching the others.

Guard (in a Ray worker) --table--> child process: the stage --annotated table--> Guard

A stage runs in a child process. Where that is lost with a table, the table's documents are tried one by one, and a
document that loses it twice by itself is failed: no document is tried more than three times.
"""
