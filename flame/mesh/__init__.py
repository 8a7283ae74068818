"""What is done with triangles: rasterisation and the nearest one to a point."""
