-- What concurrency broke: contacts that follow one that is no primary, and identifiers that stand under two primaries.
-- Returns their number.
WITH placed AS (
    SELECT id, email, phone_number, coalesce(linked_id, id) AS head FROM contacts WHERE deleted_at IS NULL
)
SELECT (SELECT count(*) FROM contacts AS follower JOIN contacts AS leader ON leader.id = follower.linked_id
        WHERE leader.link_precedence <> 'primary')
     + (SELECT count(*) FROM (SELECT FROM placed GROUP BY email HAVING count(DISTINCT head) > 1) AS split_emails)
     + (SELECT count(*) FROM (SELECT FROM placed GROUP BY phone_number HAVING count(DISTINCT head) > 1) AS split_phones)
