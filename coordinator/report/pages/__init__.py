"""A finished run, or several, as HTML pages: no network, no script, everything that a device said escaped."""
