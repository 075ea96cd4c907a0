"""Scores to discrete objects and back: every latent space behind one interface (``base.Structure``)."""
