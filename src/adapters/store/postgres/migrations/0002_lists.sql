-- Lists of final exchanges, of all partners and of one, pass over no open one: those are the newest, and a page would walk
-- them all.
CREATE INDEX exchange_final_by_time ON exchange (accepted_at, id) WHERE is_final;
CREATE INDEX exchange_final_of_partner ON exchange (partner, accepted_at, id) WHERE is_final;
