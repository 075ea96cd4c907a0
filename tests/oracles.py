"""Slow, obvious twins of the compiled kernels: enumeration and textbook recursions the tests compare against."""
