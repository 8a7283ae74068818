"""What the EG3D commands do: samples, videos, shapes."""
