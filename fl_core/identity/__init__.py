"""Who somebody is: keys, certificates and signatures, by the ``cryptography`` package (extra ``security``).

An *authority* signs the certificates of devices, coordinators, operators and servers. Everybody makes their own key and
keeps it; one Ed25519 key serves TLS and signatures, and each kind of signature has a domain of its own. Nothing in this
room knows Redis.
"""
