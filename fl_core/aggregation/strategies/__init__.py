"""The strategies that a spec may name, a file each, and the door to those that people bring."""
