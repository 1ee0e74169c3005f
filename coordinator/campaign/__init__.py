"""A campaign as a pure fold over its log: no clock, no chance, no thread and no broker in this room."""
