-- Let the entries of the audit trail come by their index, as they are asked for, in this transaction: a plan that sorts
-- them would first write all of them to the server's disk. Returns the settings. No index.
SELECT set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true),
       set_config('enable_bitmapscan', 'off', true), set_config('jit', 'off', true)
