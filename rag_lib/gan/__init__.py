"""The generative adversarial network: its attention, networks, losses and training."""
