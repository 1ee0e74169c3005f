"""Sums of encrypted updates: a device encrypts integers, anybody adds, and only the holder of one key reads the sum.

CKKS (Cheon, Kim, Kim, Song, ASIACRYPT 2017) in the ring Z_p[X]/(X^8192 + 1), with nothing but additions. TenSEAL
encrypts on the device and decrypts at the key's holder; adding is plain arithmetic modulo p and needs numpy alone.

- What travels is residues, eight bytes each, in an order of our own. TenSEAL's own form is a container whose lengths
  its C++ believes (a vector "of 2^26 elements" is decrypted as one), so it is never read from anybody else: the bytes
  that TenSEAL parses are written here, around residues that were found to be below p.
- The elements are integers, and the scale is such that what decryption adds stays far below one half: the rounded sum
  is the plain integer sum, bit for bit. Nothing of the error that CKKS leaves is given away (Li and Micciancio,
  ePrint 2020/1533, recover the key from results that carry it).

What this does not do: nobody sees whether a ciphertext is one. Whoever can place chosen residues into a sum that is
opened can make the sum depend on the key. Devices and coordinator are taken to follow the protocol; where they need not
be, keepers' masks are the answer.
"""
