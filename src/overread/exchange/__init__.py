"""What we say to other servers of the hospital."""
