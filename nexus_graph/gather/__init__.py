"""Natural batching: requests that arrive while a batch is in flight go out together in the next batch.

No request waits for company. A lone caller pays nothing; under load a batch grows to what one round trip can carry.

`gatherer` is the plain path: a queue that makes batches. Its three parts can be read and tested alone:
- `admission`: which requests may wait, and for how long;
- `pacing`: when the next batch goes out, and how large;
- `sharing`: which waiting callers an answer may also be given to.
`bounds` holds the limits of all three in one value.
"""
