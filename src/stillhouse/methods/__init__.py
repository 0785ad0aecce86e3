"""Methods: one file per published method, one table naming them."""
