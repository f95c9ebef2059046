"""Maps V ↦ φ(V) onto orthogonal matrices."""
