"""Pictures, clips and sound, read and written; meshes and contact sheets."""
