"""The released files, read without running anything in them."""
