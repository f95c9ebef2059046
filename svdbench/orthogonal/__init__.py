"""Maps V ↦ φ(V) onto orthogonal matrices, one file each; ``registry`` finds them."""
