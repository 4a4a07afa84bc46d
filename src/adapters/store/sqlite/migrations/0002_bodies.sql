-- The sum of all sizes is read from the first alone, the bodies that lie in files from the second. That its content is
-- NULL stands there too, or each row would be looked at for it.
CREATE INDEX body_by_size ON body (size);
CREATE INDEX body_in_file ON body (id, exchange, content) WHERE content IS NULL;
