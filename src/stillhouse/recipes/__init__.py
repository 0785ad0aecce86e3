"""Recipes: what a run is, from images to an encoder; and the shipped ones."""
