"""The engines: each builds an avatar from a tracked source and renders frames from an avatar and a drive."""
