"""Measurements behind the README's numbers: each writes JSON and says which hardware it ran on."""
