"""`loops conformance URL`: the contract's rules against a live service, and reports of them."""
