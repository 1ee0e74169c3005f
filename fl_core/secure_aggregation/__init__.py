"""Secure aggregation: devices send masked updates, and only the sum of many of them is ever opened, by keepers.

A device adds one-time masks to its update, each made from a seed, and seals the seeds to *keepers*: small daemons that
other parties run. The coordinator adds masked updates up. Then each keeper tells the sum of the masks that are in a
whole order of updates, never those of one, and the coordinator takes them off the sum. Seeds are replicated: there is
one for each set of ``colluders`` keepers, and all others hold it (Cramer, Damgard and Ishai, "Share Conversion,
Pseudorandom Secret-Sharing and Applications to Secure Computation", TCC 2005). So any ``colluders`` keepers and the
coordinator together lack one seed of each device, and so many keepers may be away that each seed has a holder left.

Numbers are integers modulo 2**32, so a sum is exact. Nothing in this room knows a broker, and nothing loads torch.
"""
