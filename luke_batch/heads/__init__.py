"""One file a head: what it asks of the model, how it decodes the answer, which columns it writes."""
