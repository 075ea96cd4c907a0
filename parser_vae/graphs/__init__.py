"""Latent graph recovery: the tree that couples moving points, from their trajectories alone."""
