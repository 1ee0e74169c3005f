"""From a spec, or the folder of a run, to a running campaign: all wiring is done here, and nothing else imports it."""
