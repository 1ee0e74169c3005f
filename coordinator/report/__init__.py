"""Reports on a run, from its folder alone: no broker is needed here."""
