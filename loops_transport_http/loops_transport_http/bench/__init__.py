"""What the protocol costs, measured beside a floor: the parts of `loops bench protocol`."""
