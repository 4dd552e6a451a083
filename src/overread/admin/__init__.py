"""What the operator does on the machine itself, with the owner's log-in: tenants, and which DICOM peers send."""

from overread.admin.senders import add_sender, remove_sender, senders

__all__ = ["add_sender", "remove_sender", "senders"]
