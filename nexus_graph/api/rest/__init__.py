"""REST: one module for each verb, each an endpoint from `Post` to `Answer`."""
