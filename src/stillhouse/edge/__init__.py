"""A core model that keeps learning from clones which train elsewhere and come back whenever they can."""
