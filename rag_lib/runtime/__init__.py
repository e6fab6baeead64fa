"""What trainings rest on: devices, random numbers, checkpoints, runs on the disk and their provenance."""
