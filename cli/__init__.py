"""Thin Typer commands, one file each; installed as ``parser_vae.cli``."""
