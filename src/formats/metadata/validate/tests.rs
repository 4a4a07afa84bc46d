use super::*;

#[test]
fn every_rule_has_an_id_once_and_says_what_it_asks() {
    let mut ids: Vec<_> = rules().map(|rule| rule.id).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
    assert!(rules().all(|rule| !rule.asks.is_empty() && !rule.levels.is_empty()));
}
