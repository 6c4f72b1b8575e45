"""What this machine does with this bundle, and what that would mean for a camera."""
