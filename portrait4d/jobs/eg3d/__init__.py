"""The work of the EG3D commands: samples, videos, shapes."""
