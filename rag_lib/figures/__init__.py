"""Tables and images to figures; nothing here computes."""
