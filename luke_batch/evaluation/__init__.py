"""How good annotations are: scores of annotated documents against gold ones, and calibration of scores."""
