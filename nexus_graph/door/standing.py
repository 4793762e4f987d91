"""Where a caller stands with a limit, for answers: what is allowed, what is left of it, and when there will be more."""

from functools import lru_cache
from typing import Final, NamedTuple

from nexus_graph.errors import RateLimited


class Standing(NamedTuple):
    """A limit as one caller has used it."""

    limit: int
    """What may be spent in `window_seconds`."""
    remaining: int
    """What may be spent now; it may be less than Redis would allow, by what this process does not know yet."""
    reset_seconds: int
    """Until the present window ends, and what was spent begins to count less. Of a refused call: until its cost
    fits."""
    window_seconds: int
    policy: str
    """The name of the limit: a role, `default` or `families`; "" where there is no limit."""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """`RateLimit-Policy` and `RateLimit`, by draft-ietf-httpapi-ratelimit-headers-11. No headers without a
        limit.
        """
        if not self.policy:
            return []
        name = self.policy.encode()
        return [
            (b"ratelimit-policy", _policy_header(self.policy, self.limit, self.window_seconds)),
            (b"ratelimit", b'"%b";r=%d;t=%d' % (name, self.remaining, self.reset_seconds)),
        ]


UNLIMITED: Final = Standing(0, 0, 0, 0, "")
"""The standing of a caller who has no limit."""


def refusal(standing: Standing) -> RateLimited:
    """The error of a caller who stands so."""
    what = "families read by one caller" if standing.policy == "families" else "calls"
    return RateLimited(
        f"Too many {what}: {standing.limit} in {standing.window_seconds} s are allowed",
        retry_after_seconds=standing.reset_seconds,
        headers=standing.headers(),
        facts={"limit": standing.limit, "remaining": standing.remaining, "windowSeconds": standing.window_seconds},
    )


@lru_cache(maxsize=64)
def _policy_header(policy: str, limit: int, window_seconds: int) -> bytes:
    return b'"%b";q=%d;w=%d' % (policy.encode(), limit, window_seconds)
