"""A project of your own: fedtide finds it by its import path and never copies it to another machine."""
