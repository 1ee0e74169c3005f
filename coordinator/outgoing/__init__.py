"""All that goes out to devices: tasks and doorbells, versions and patches, each written in a fenced transaction."""
