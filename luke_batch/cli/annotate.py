"""x."""
def annotate()->None:
    pass
