"""The settings of a run: typed, with presets, checked before anything starts."""
