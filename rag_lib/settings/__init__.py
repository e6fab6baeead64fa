"""What can be set: the fields with their bounds, the presets, the names of the arms."""
