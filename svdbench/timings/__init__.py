"""What the timing jobs share."""
