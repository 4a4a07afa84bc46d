-- Lists of one state, and of one state and partner, pass over nothing that they do not show: open exchanges are the
-- newest, and a page of final ones would walk them all.
CREATE INDEX exchange_open_of_partner ON exchange (partner, accepted_at, id) WHERE is_final = 0;
CREATE INDEX exchange_final_by_time ON exchange (accepted_at, id) WHERE is_final = 1;
CREATE INDEX exchange_final_of_partner ON exchange (partner, accepted_at, id) WHERE is_final = 1;
