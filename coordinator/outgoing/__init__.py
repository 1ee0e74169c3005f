"""What goes out to devices: tasks and their doorbells, versions and patches, each written in a fenced transaction."""
