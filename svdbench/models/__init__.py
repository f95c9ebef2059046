"""Recurrent networks, each in its source's form, one file each; ``registry`` finds them."""
