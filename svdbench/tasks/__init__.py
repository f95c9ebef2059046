"""Sequence tasks for recurrent networks, one file each; ``registry`` finds them."""
