"""The compiled inner loops; each has a slow, obvious twin in ``tests/oracles.py``."""
