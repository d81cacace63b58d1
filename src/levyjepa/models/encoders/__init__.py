"""Our encoders, one file each; every module registers itself when it is imported."""
