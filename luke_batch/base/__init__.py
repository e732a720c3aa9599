"""What everything stands on: arrays, errors, counts, contracts."""
