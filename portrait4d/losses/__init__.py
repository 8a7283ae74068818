"""What the reconstructor minimises: each term a function, with its equation and its unit."""
