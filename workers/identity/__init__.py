"""A device's identity, on the device: asked for, used to sign, and given up where the authority has revoked it."""
