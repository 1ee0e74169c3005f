"""``fedtide``: launches campaigns, merges what devices send, keeps the ledger, and watches."""
