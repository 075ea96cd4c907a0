"""The dependency-parsing problem: sentences to arc scores, trees back to words."""
