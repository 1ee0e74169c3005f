"""What a run can tell afterwards, from its folder alone: no broker is needed here."""
