"""The No-U-Turn sampler, by Pyro's kernel."""
