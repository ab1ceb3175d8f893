"""Negotiation: domains, protocols, utilities, partners and metrics."""
