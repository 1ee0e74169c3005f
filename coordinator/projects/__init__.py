"""New projects from templates: a package of one's own that runs at once."""
