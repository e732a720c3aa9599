"""The whole annotation on Arrow tables, in one process and without Ray."""
