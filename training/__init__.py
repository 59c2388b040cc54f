"""Trains the networks that `depthseg_ros` runs; run from the checkout as `python -m training`."""
