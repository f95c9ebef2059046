"""``make gpu``: everything that needs an NVIDIA GPU, part by part, each in a process of its own."""
