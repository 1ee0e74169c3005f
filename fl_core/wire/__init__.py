"""The records that travel between programs, checked where they enter. Nothing here knows where they are kept."""
