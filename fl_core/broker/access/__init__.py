"""Who may do what at the server: users with the rights that their work needs, and no more (Redis' ACL)."""
