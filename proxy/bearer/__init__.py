"""Verified bearer tokens: verifier (JSON Web Tokens), keys (a key set, kept fresh), jwks (its document), source."""
