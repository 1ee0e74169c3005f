"""The training methods that a spec may name: each a device's way from a version to what it sends."""
