"""Three axis-aligned feature planes that hold a volume (EG3D, Chan et al. 2022, section 3)."""
