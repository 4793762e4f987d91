-- Is the record there?
SELECT true
