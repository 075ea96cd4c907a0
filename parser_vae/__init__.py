"""Adapt a dependency parser to a new domain without labelled trees there.

The parse tree is the latent variable of a variational auto-encoder: an encoder scores arcs, a structured
argmax picks a tree, and a tree-conditioned language model reconstructs the sentence.
"""

__version__ = "0.1.0"
