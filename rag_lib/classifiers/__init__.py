"""The classifiers that the groups are compared by: networks and training."""
