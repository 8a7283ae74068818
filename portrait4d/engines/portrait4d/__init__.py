"""The engine of the Portrait4D networks."""
