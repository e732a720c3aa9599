"""Files and documents that hang, exhaust memory or kill their process, kept from touching the others.

Reader (in a Ray worker) --work items--> child process: pyarrow --tables--> Reader
Guard (in a Ray worker) --table--> child process: the stage --annotated table--> Guard

Where a child process is lost with a table, the table's documents are tried one by one, and a document that loses it
twice by itself is failed: no document is tried more than three times. So are the fragments of a work item.
"""
