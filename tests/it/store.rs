//! The contract of the ports `Exchanges` and `Bodies`. Every implementation passes the same cases: each is handed a
//! ground that opens its store, again and again, on the same data.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use xdbridge::{
    adapters::store::{ChainVerdict, Store},
    flows::ports::{
        Claim, ExchangeFilter, Found, LookupKey, Reschedule, StoreError, UnitOfWork,
        VersionedExchange,
    },
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        ids::{BodyId, ExchangeId},
    },
};

use crate::support::store::{
    SqliteGround, done, exchange, insert, look_up, octets, read, stage, time, update,
};

const LEASE: Duration = Duration::from_secs(60);

/// Where a store lies.
#[async_trait]
trait Ground: Send + Sync {
    async fn open(&self) -> Arc<dyn Store>;
}

// --- exchanges ---------------------------------------------------------------------------------

async fn reads_back_what_was_written(ground: &dyn Ground) {
    let store = ground.open().await;
    let mut written = exchange("edge", time(0));
    store.commit(insert(&written, vec![])).await.unwrap();
    assert_eq!(loaded(&store, written.id).await.exchange, written);

    let first = loaded(&store, written.id).await.version;
    written.final_at = Some(time(9));
    store.commit(update(&written, first)).await.unwrap();
    store.close().await;

    let store = ground.open().await;
    let second = loaded(&store, written.id).await;
    assert_eq!(second.exchange, written);
    assert_ne!(second.version, first);
    assert!(store.load(ExchangeId::random()).await.unwrap().is_none());
    store.close().await;
}

async fn stale_versions_conflict(ground: &dyn Ground) {
    let store = ground.open().await;
    let written = exchange("edge", time(0));
    store.commit(insert(&written, vec![])).await.unwrap();
    let version = loaded(&store, written.id).await.version;
    store.commit(update(&written, version)).await.unwrap();

    let mut late = update(&written, version);
    late.effects = vec![look_up(&written, 0, time(0))];
    late.audit = vec![record()];
    let again = insert(&written, vec![]);
    let unknown = update(&exchange("edge", time(0)), 1);
    for unit in [late, again, unknown] {
        let error = store.commit(unit).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
    }
    assert_eq!(store.next_due().await.unwrap(), None);
    assert_eq!(audit_records(&store).await, 0);
    store.close().await;
}

async fn all_of_a_unit_or_nothing(ground: &dyn Ground) {
    let store = ground.open().await;
    let written = exchange("edge", time(0));
    let staged = stage(&store, octets(40_000), false).await;
    let mut unit = insert(&written, vec![LookupKey::MessageId("1@a.example".into())]);
    unit.adopt = vec![staged.id];
    unit.audit = vec![record()];
    // An effect for an exchange that nobody knows: the last of the unit's writes but one.
    unit.effects = vec![look_up(&exchange("edge", time(0)), 0, time(0))];
    assert!(store.commit(unit).await.is_err());

    assert!(store.load(written.id).await.unwrap().is_none());
    assert_eq!(audit_records(&store).await, 0);
    assert_eq!(store.next_due().await.unwrap(), None);
    // The body is still staged, so the unit can be mended and tried again.
    let mut unit = insert(&written, vec![LookupKey::MessageId("1@a.example".into())]);
    unit.adopt = vec![staged.id];
    store.commit(unit).await.unwrap();
    assert_eq!(read(&store, staged.id).await.unwrap(), octets(40_000));
    store.close().await;
}

async fn units_that_come_together_are_answered_each(ground: &dyn Ground) {
    let store = ground.open().await;
    let known = exchange("edge", time(0));
    store.commit(insert(&known, vec![])).await.unwrap();
    let mut units = Vec::new();
    let mut expected = Vec::new();
    for number in 0..200 {
        let is_good = number % 7 != 3;
        let mut fresh = exchange("edge", time(number));
        if !is_good {
            fresh.id = known.id;
        }
        let mut unit = insert(&fresh, vec![]);
        unit.audit = vec![record()];
        expected.push((fresh.id, is_good));
        let store = Arc::clone(&store);
        units.push(tokio::spawn(async move { store.commit(unit).await }));
    }
    for (unit, (id, is_good)) in units.into_iter().zip(&expected) {
        assert_eq!(unit.await.unwrap().is_ok(), *is_good);
        assert!(store.load(*id).await.unwrap().is_some());
    }
    let good = expected.iter().filter(|(_, is_good)| *is_good).count();
    assert_eq!(audit_records(&store).await, good as u64);
    assert_eq!(loaded(&store, known.id).await.exchange, known);
    store.close().await;
}

async fn keys_lead_to_their_exchanges(ground: &dyn Ground) {
    let store = ground.open().await;
    let soap = |partner: &str| LookupKey::SoapMessageId {
        partner: partner.into(),
        id: "urn:uuid:1".into(),
    };
    let set = |partner: &str| LookupKey::SubmissionSet {
        partner: partner.into(),
        id: "2.999.5".into(),
    };
    let newer = exchange("a", time(9));
    let older = exchange("a", time(3));
    let others = exchange("b", time(5));
    let twice = vec![soap("a"), set("a"), soap("a")];
    store.commit(insert(&newer, twice)).await.unwrap();
    store.commit(insert(&older, vec![soap("a")])).await.unwrap();
    store.commit(insert(&others, vec![set("b")])).await.unwrap();

    let find = async |key| store.find(&key).await.unwrap();
    assert_eq!(find(soap("a")).await, [older.id, newer.id]);
    assert_eq!(find(set("a")).await, [newer.id]);
    assert_eq!(find(set("b")).await, [others.id]);
    assert!(find(soap("b")).await.is_empty());
    assert!(
        find(LookupKey::MessageId("urn:uuid:1".into()))
            .await
            .is_empty()
    );

    // Of an id that a sender uses for everything some are found, of a submission all.
    let submission = LookupKey::Submission {
        partner: "a".into(),
        digest: [7; 32],
    };
    let constant = LookupKey::SoapMessageId {
        partner: "a".into(),
        id: "urn:constant".into(),
    };
    for second in 20..60 {
        let one = exchange("a", time(second));
        let keys = vec![submission.clone(), constant.clone()];
        store.commit(insert(&one, keys)).await.unwrap();
    }
    assert_eq!(find(submission).await.len(), 40);
    assert_eq!(find(constant).await.len(), 16);

    let any = |text: &str| LookupKey::Any(text.to_owned());
    assert_eq!(find(any("urn:uuid:1")).await, [older.id, newer.id]);
    assert_eq!(find(any("2.999.5")).await, [others.id, newer.id]);
    assert_eq!(find(any(&others.id.to_string())).await, [others.id]);
    assert!(
        find(any(&ExchangeId::random().to_string()))
            .await
            .is_empty()
    );

    let mut with_mail = update(&others, 1);
    if let Some(xdbridge::flows::ports::ExchangeWrite::Update { keys, .. }) =
        &mut with_mail.exchange
    {
        keys.push(LookupKey::MessageId("9@hisp.example".into()));
    }
    store.commit(with_mail).await.unwrap();
    let mail = LookupKey::MessageId("9@hisp.example".into());
    assert_eq!(find(mail).await, [others.id]);
    assert_eq!(find(any("<9@hisp.example>")).await, [others.id]);
    store.close().await;
}

async fn what_was_decided_without_another_is_refused(ground: &dyn Ground) {
    let store = ground.open().await;
    let submission = |digest| LookupKey::Submission {
        partner: "edge".into(),
        digest,
    };
    let key = submission([7; 32]);
    let decided = |key: &LookupKey, known: &[ExchangeId]| {
        let fresh = exchange("edge", time(0));
        let mut unit = insert(&fresh, vec![key.clone()]);
        unit.audit = vec![record()];
        unit.decided_on = Some(Found {
            key: key.clone(),
            exchanges: known.to_vec(),
        });
        (fresh.id, unit)
    };
    // Many at once, each of which takes itself for the first; one of another key among them.
    let units = (0..40).map(|_| decided(&key, &[]).1);
    let committing: Vec<_> = units
        .chain([decided(&submission([8; 32]), &[]).1])
        .map(|unit| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.commit(unit).await })
        })
        .collect();
    let mut written = 0;
    for unit in committing {
        match unit.await.unwrap() {
            Ok(()) => written += 1,
            Err(error) => assert!(matches!(error, StoreError::Overtaken), "{error}"),
        }
    }
    assert_eq!(written, 2);
    assert_eq!(audit_records(&store).await, 2);
    let first = store.find(&key).await.unwrap();
    assert_eq!(first.len(), 1);

    // Whoever knows of it may record another; what is gone by now changes nothing.
    let (second, unit) = decided(&key, &[first[0], ExchangeId::random()]);
    store.commit(unit).await.unwrap();
    let late = store.commit(decided(&key, &first).1).await;
    assert!(matches!(late, Err(StoreError::Overtaken)), "{late:?}");
    store.close().await;

    // After a start as well, and for a change as well as for a new one.
    let store = ground.open().await;
    let version = loaded(&store, second).await;
    let mut change = update(&version.exchange, version.version);
    change.decided_on = decided(&key, &[second]).1.decided_on;
    let refused = store.commit(change).await;
    assert!(matches!(refused, Err(StoreError::Overtaken)), "{refused:?}");
    assert_eq!(loaded(&store, second).await.version, version.version);
    let mut change = update(&version.exchange, version.version);
    change.decided_on = decided(&key, &[first[0], second]).1.decided_on;
    store.commit(change).await.unwrap();

    // Of what its sender chose only some are found: nothing can be decided on that.
    let some = LookupKey::SubmissionSet {
        partner: "edge".into(),
        id: "2.999.5".into(),
    };
    assert!(store.commit(decided(&some, &[]).1).await.is_err());
    store.close().await;
}

async fn lists_are_cut_and_filtered(ground: &dyn Ground) {
    let store = ground.open().await;
    let mut all = Vec::new();
    for number in 0..12 {
        // Three at a time are accepted at the very same instant.
        let partner = if number % 2 == 0 { "a" } else { "b" };
        let mut written = exchange(partner, time(number / 3));
        written.final_at = (number % 4 == 0).then(|| time(50));
        store.commit(insert(&written, vec![])).await.unwrap();
        all.push((written.id, partner, written.is_final()));
    }
    for partner in [None, Some("a"), Some("b")] {
        for is_final in [None, Some(true), Some(false)] {
            let mut filter = ExchangeFilter {
                partner: partner.map(str::to_owned),
                is_final,
                limit: 2,
                ..ExchangeFilter::default()
            };
            let mut listed = Vec::new();
            loop {
                let page = store.list(&filter).await.unwrap();
                assert!(page.len() <= 2);
                let Some(last) = page.last() else { break };
                filter.accepted_before = Some(last.accepted_at);
                filter.before_id = Some(last.id);
                listed.extend(page);
            }
            assert!(listed.is_sorted_by_key(|e| std::cmp::Reverse(e.accepted_at)));
            let mut listed: Vec<_> = listed.iter().map(|exchange| exchange.id).collect();
            let mut expected: Vec<_> = all
                .iter()
                .filter(|(_, of, is)| {
                    partner.is_none_or(|p| p == *of) && is_final.is_none_or(|f| f == *is)
                })
                .map(|(id, ..)| *id)
                .collect();
            listed.sort();
            expected.sort();
            assert_eq!(listed, expected, "{partner:?} {is_final:?}");
        }
    }
    let strictly_before = ExchangeFilter {
        accepted_before: Some(time(1)),
        limit: 100,
        ..ExchangeFilter::default()
    };
    assert_eq!(store.list(&strictly_before).await.unwrap().len(), 3);
    store.close().await;
}

// --- outbox ------------------------------------------------------------------------------------

async fn due_effects_are_claimed_once(ground: &dyn Ground) {
    let store = ground.open().await;
    let written = exchange("edge", time(0));
    let mut unit = insert(&written, vec![]);
    unit.effects = (0..5)
        .map(|n| look_up(&written, n, time(n as i64 * 10)))
        .collect();
    store.commit(unit).await.unwrap();

    assert_eq!(store.next_due().await.unwrap(), Some(time(0)));
    assert!(store.claim(time(-1), LEASE, 9).await.unwrap().is_empty());
    let first = store.claim(time(20), LEASE, 2).await.unwrap();
    let second = store.claim(time(20), LEASE, 9).await.unwrap();
    let positions = |claims: &[xdbridge::flows::ports::Claim]| -> Vec<_> {
        claims.iter().map(|claim| claim.effect.clone()).collect()
    };
    let effect = |n| look_up(&written, n, time(0)).1.effect;
    assert_eq!(positions(&first), [effect(0), effect(1)]);
    assert_eq!(positions(&second), [effect(2)]);
    assert_eq!(first[0].exchange, written.id);
    assert_eq!(first[0].attempts, 0);
    assert_eq!(first[0].leased_until, time(80));
    assert_eq!(store.next_due().await.unwrap(), Some(time(30)));

    store.commit(done(&first[0])).await.unwrap();
    let error = store.commit(done(&first[0])).await.unwrap_err();
    assert!(matches!(error, StoreError::LeaseLost), "done is done");
    store.close().await;
}

async fn lapsed_leases_are_claimed_again(ground: &dyn Ground) {
    let store = ground.open().await;
    let written = exchange("edge", time(0));
    let mut unit = insert(&written, vec![]);
    unit.effects = vec![look_up(&written, 0, time(0))];
    store.commit(unit).await.unwrap();

    let slow = store.claim(time(0), LEASE, 1).await.unwrap().remove(0);
    assert_eq!(store.next_due().await.unwrap(), Some(time(60)));
    assert!(store.claim(time(59), LEASE, 1).await.unwrap().is_empty());
    let quick = store.claim(time(60), LEASE, 1).await.unwrap().remove(0);
    assert_eq!((quick.id, quick.attempts), (slow.id, 1));

    let mut late = done(&slow);
    late.audit = vec![record()];
    for result in [
        store.commit(late).await,
        store.give_back(&slow, time(0)).await,
    ] {
        assert!(matches!(result, Err(StoreError::LeaseLost)));
    }
    assert_eq!(audit_records(&store).await, 0);
    store.commit(done(&quick)).await.unwrap();
    assert_eq!(store.next_due().await.unwrap(), None);
    store.close().await;
}

async fn a_claim_stands_until_it_is_anothers(ground: &dyn Ground) {
    let store = ground.open().await;
    let written = exchange("edge", time(0));
    let mut unit = insert(&written, vec![]);
    unit.effects = vec![look_up(&written, 0, time(0))];
    store.commit(unit).await.unwrap();
    let step = async |claim: &Claim| {
        let version = loaded(&store, written.id).await.version;
        let mut unit = update(&written, version);
        unit.under = Some(claim.clone());
        unit.audit = vec![record()];
        store.commit(unit).await
    };

    let slow = store.claim(time(0), LEASE, 1).await.unwrap().remove(0);
    store.confirm(&slow).await.unwrap();
    step(&slow).await.unwrap();
    assert_eq!(audit_records(&store).await, 1);
    let outstanding = store.outstanding(written.id).await.unwrap();
    assert!(outstanding[0].is_under_way, "a step completes nothing");

    let quick = store.claim(time(60), LEASE, 1).await.unwrap().remove(0);
    let before = loaded(&store, written.id).await.version;
    for result in [store.confirm(&slow).await, step(&slow).await] {
        assert!(matches!(result, Err(StoreError::LeaseLost)), "{result:?}");
    }
    assert_eq!(loaded(&store, written.id).await.version, before);
    assert_eq!(audit_records(&store).await, 1);
    step(&quick).await.unwrap();
    store.give_back(&quick, time(99)).await.unwrap();
    for result in [store.confirm(&quick).await, step(&quick).await] {
        assert!(matches!(result, Err(StoreError::LeaseLost)), "{result:?}");
    }
    store.close().await;
}

async fn effects_given_back_wait_and_ring(ground: &dyn Ground) {
    let store = ground.open().await;
    let written = exchange("edge", time(0));
    let mut unit = insert(&written, vec![]);
    unit.effects = vec![look_up(&written, 0, time(0))];
    let rings = store.due_changed();
    store.commit(unit).await.unwrap();
    within(rings.notified()).await;

    let claim = store.claim(time(0), LEASE, 1).await.unwrap().remove(0);
    store.give_back(&claim, time(7)).await.unwrap();
    within(rings.notified()).await;
    assert_eq!(store.next_due().await.unwrap(), Some(time(7)));
    assert!(store.claim(time(6), LEASE, 1).await.unwrap().is_empty());
    let again = store.claim(time(7), LEASE, 1).await.unwrap().remove(0);
    assert_eq!(again.attempts, 1);
    store.close().await;
}

async fn the_outbox_survives(ground: &dyn Ground) {
    let store = ground.open().await;
    let written = exchange("edge", time(0));
    let mut unit = insert(&written, vec![]);
    unit.effects = (0..2).map(|n| look_up(&written, n, time(0))).collect();
    store.commit(unit).await.unwrap();
    let claimed = store.claim(time(0), LEASE, 1).await.unwrap().remove(0);
    store.close().await;
    assert!(store.claim(time(0), LEASE, 1).await.is_err(), "closed");

    // What was leased is not lost: it can be claimed once its lease has lapsed, or at once.
    let store = ground.open().await;
    let claims = store.claim(time(61), LEASE, 9).await.unwrap();
    assert_eq!(claims.len(), 2);
    let again = claims.iter().find(|claim| claim.id == claimed.id).unwrap();
    assert_eq!(again.effect, claimed.effect);
    assert_eq!(again.attempts, 1);
    store.close().await;
}

async fn what_is_due_at_once_is_leased_by_its_own_commit(ground: &dyn Ground) {
    let store = ground.open().await;
    let written = exchange("edge", time(0));
    store.lease_on_commit(LEASE, 2);
    let mut refused = insert(&written, vec![]);
    refused.effects = vec![
        look_up(&written, 9, time(0)),
        look_up(&exchange("edge", time(0)), 9, time(0)),
    ];
    assert!(store.commit(refused).await.is_err());

    // Three are due and there is room for two; one waits.
    let mut unit = insert(&written, vec![]);
    unit.effects = [0, 5, -3, 0]
        .into_iter()
        .enumerate()
        .map(|(n, due)| look_up(&written, n, time(due)))
        .collect();
    store.commit(unit).await.unwrap();
    let short = Duration::from_secs(1);
    let mut claims = store.claim(time(0), short, 1).await.unwrap();
    claims.extend(store.claim(time(0), short, 9).await.unwrap());
    let effects: Vec<_> = claims.iter().map(|claim| claim.effect.clone()).collect();
    let effect = |n| look_up(&written, n, time(0)).1.effect;
    assert_eq!(effects, [effect(0), effect(2), effect(3)]);
    let leases: Vec<_> = claims.iter().map(|claim| claim.leased_until).collect();
    assert_eq!(leases, [time(60), time(60), time(1)]);
    assert!(claims.iter().all(|claim| claim.attempts == 0));
    assert!(store.claim(time(0), LEASE, 9).await.unwrap().is_empty());

    // A lease is a lease, however it was had.
    store.commit(done(&claims[0])).await.unwrap();
    let again = store.commit(done(&claims[0])).await.unwrap_err();
    assert!(matches!(again, StoreError::LeaseLost), "{again}");
    store.give_back(&claims[1], time(3)).await.unwrap();
    assert_eq!(store.next_due().await.unwrap(), Some(time(1)));
    let late = store.claim(time(60), LEASE, 9).await.unwrap();
    let attempts: Vec<_> = late.iter().map(|claim| claim.attempts).collect();
    assert_eq!(attempts, [0, 1, 1], "that waited, given back, lapsed");
    assert!(store.commit(done(&claims[2])).await.is_err(), "it lapsed");
    store.close().await;
}

async fn a_lease_that_nobody_took_lapses_or_ends_with_the_process(ground: &dyn Ground) {
    let store = ground.open().await;
    let written = exchange("edge", time(0));
    store.lease_on_commit(LEASE, 2);
    let mut unit = insert(&written, vec![]);
    unit.effects = (0..2).map(|n| look_up(&written, n, time(0))).collect();
    store.commit(unit).await.unwrap();
    assert_eq!(store.next_due().await.unwrap(), Some(time(60)));
    let claims = store.claim(time(60), LEASE, 1).await.unwrap();
    assert_eq!(claims[0].attempts, 1);
    store.close().await;

    let store = ground.open().await;
    let claims = store.claim(time(61), LEASE, 9).await.unwrap();
    assert_eq!(claims.len(), 2);
    store.close().await;
}

async fn what_waits_gets_another_time_and_what_is_leased_does_not(ground: &dyn Ground) {
    let store = ground.open().await;
    let written = exchange("edge", time(0));
    let other = exchange("edge", time(0));
    store.commit(insert(&other, vec![])).await.unwrap();
    let mut unit = insert(&written, vec![]);
    unit.effects = [0, 500, 900]
        .into_iter()
        .enumerate()
        .map(|(n, due)| look_up(&written, n, time(due)))
        .collect();
    store.commit(unit).await.unwrap();
    let claim = store.claim(time(0), LEASE, 1).await.unwrap().remove(0);

    let seen = store.outstanding(written.id).await.unwrap();
    let shown: Vec<_> = seen
        .iter()
        .map(|one| (one.effect.clone(), one.due, one.is_under_way))
        .collect();
    let effect = |n| look_up(&written, n, time(0)).1.effect;
    let expected = [
        (effect(0), time(60), true),
        (effect(1), time(500), false),
        (effect(2), time(900), false),
    ];
    assert_eq!(shown, expected);
    assert!(store.outstanding(other.id).await.unwrap().is_empty());

    let to = |id, at| Reschedule {
        exchange: written.id,
        id,
        at: time(at),
    };
    let unit = |to: Vec<Reschedule>| UnitOfWork {
        reschedule: to,
        audit: vec![record()],
        ..UnitOfWork::default()
    };
    let foreign = Reschedule {
        exchange: other.id,
        ..to(seen[2].id, 1)
    };
    for refused in [
        vec![to(seen[2].id, 1), to(claim.id, 1)],
        vec![foreign],
        vec![to(i64::MAX, 1)],
    ] {
        let error = store.commit(unit(refused)).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
    }
    assert_eq!(store.outstanding(written.id).await.unwrap(), seen);
    assert_eq!(audit_records(&store).await, 0);

    let rings = store.due_changed();
    // A ring of the first commit may still be there.
    let _ = tokio::time::timeout(Duration::ZERO, rings.notified()).await;
    store.commit(unit(vec![to(seen[2].id, 1)])).await.unwrap();
    within(rings.notified()).await;
    assert_eq!(store.next_due().await.unwrap(), Some(time(1)));
    let again = store.claim(time(1), LEASE, 9).await.unwrap();
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].id, again[0].attempts), (seen[2].id, 0));
    assert_eq!(audit_records(&store).await, 1);
    store.close().await;
}

// --- bodies ------------------------------------------------------------------------------------

async fn bodies_read_back_wherever_they_lie(ground: &dyn Ground) {
    let store = ground.open().await;
    let mut written = Vec::new();
    for length in [0, 1, 32 * 1024 - 1, 32 * 1024, 65_536, 65_537, 300_000] {
        for is_sealed in [false, true] {
            let staged = stage(&store, octets(length), is_sealed).await;
            assert_eq!(staged.size, length as u64);
            assert_eq!(read(&store, staged.id).await.unwrap(), octets(length));
            written.push((staged, length));
        }
    }
    let owner = exchange("edge", time(0));
    let mut unit = insert(&owner, vec![]);
    unit.adopt = written.iter().map(|(staged, _)| staged.id).collect();
    store.commit(unit).await.unwrap();
    let written: Vec<(BodyId, usize)> = written
        .into_iter()
        .map(|(staged, length)| (staged.id, length))
        .collect();
    for (id, length) in &written {
        assert_eq!(read(&store, *id).await.unwrap(), octets(*length));
    }
    store.close().await;
    let store = ground.open().await;
    for (id, length) in &written {
        assert_eq!(read(&store, *id).await.unwrap(), octets(*length));
    }
    store.close().await;
}

async fn bodies_that_nobody_holds_are_dropped(ground: &dyn Ground) {
    let store = ground.open().await;
    for length in [100, 100_000] {
        let staged = stage(&store, octets(length), false).await;
        let (id, clone) = (staged.id, staged.clone());
        drop(staged);
        assert!(read(&store, id).await.is_ok(), "a clone holds it");
        drop(clone);
        assert!(is_damaged(read(&store, id).await), "{length}");
        let unit = UnitOfWork {
            adopt: vec![id],
            audit: vec![record()],
            ..UnitOfWork::default()
        };
        assert!(is_damaged(store.commit(unit).await), "{length}");
    }
    assert_eq!(audit_records(&store).await, 0);
    store.close().await;
}

async fn bodies_have_one_owner_and_are_removed_once_for_all(ground: &dyn Ground) {
    let store = ground.open().await;
    let owner = exchange("edge", time(0));
    let mut ids = Vec::new();
    let mut unit = insert(&owner, vec![]);
    let mut held = Vec::new();
    for length in [100, 100_000] {
        let staged = stage(&store, octets(length), true).await;
        ids.push(staged.id);
        held.push(staged);
    }
    unit.adopt = ids.clone();
    store.commit(unit).await.unwrap();
    let mut second = insert(&exchange("edge", time(1)), vec![]);
    second.adopt = ids.clone();
    assert!(is_damaged(store.commit(second).await));
    assert_eq!(store.body_bytes().await.unwrap(), 100_100);

    // Twice: the effect that removes bodies may be run again after a crash.
    for _ in 0..2 {
        let unit = UnitOfWork {
            remove: ids.clone(),
            ..UnitOfWork::default()
        };
        store.commit(unit).await.unwrap();
        for id in &ids {
            assert!(is_damaged(read(&store, *id).await));
        }
    }
    assert!(is_damaged(read(&store, BodyId::random()).await));
    assert_eq!(store.body_bytes().await.unwrap(), 0);
    let free = store.free().await.unwrap();
    assert!(free.bytes > 0 && free.inodes != Some(0), "{free:?}");
    store.close().await;
}

// --- on SQLite ---------------------------------------------------------------------------------

mod sqlite {
    use super::*;

    #[async_trait]
    impl Ground for SqliteGround {
        async fn open(&self) -> Arc<dyn Store> {
            SqliteGround::open(self).await
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_exchange_reads_back_as_it_was_written() {
        reads_back_what_was_written(&SqliteGround::new()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stale_version_conflicts_and_nothing_of_its_unit_is_written() {
        stale_versions_conflict(&SqliteGround::new()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_unit_is_written_whole_or_not_at_all() {
        all_of_a_unit_or_nothing(&SqliteGround::new()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_units_that_come_together_a_bad_one_fails_alone() {
        units_that_come_together_are_answered_each(&SqliteGround::new()).await;
    }

    // rule: XDR-50
    #[tokio::test(flavor = "multi_thread")]
    async fn keys_lead_to_exchanges_and_never_across_partners() {
        keys_lead_to_their_exchanges(&SqliteGround::new()).await;
    }

    // rule: XDR-50, DST-6
    #[tokio::test(flavor = "multi_thread")]
    async fn of_those_that_each_take_themselves_for_the_first_under_a_key_one_is_written() {
        what_was_decided_without_another_is_refused(&SqliteGround::new()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn lists_page_through_every_exchange_that_fits_the_filter() {
        lists_are_cut_and_filtered(&SqliteGround::new()).await;
    }

    // rule: Q-1
    #[tokio::test(flavor = "multi_thread")]
    async fn a_due_effect_is_claimed_once_and_not_before_its_time() {
        due_effects_are_claimed_once(&SqliteGround::new()).await;
    }

    // rule: Q-1
    #[tokio::test(flavor = "multi_thread")]
    async fn a_lapsed_lease_is_claimed_again_and_its_late_worker_changes_nothing() {
        lapsed_leases_are_claimed_again(&SqliteGround::new()).await;
    }

    // rule: Q-1
    #[tokio::test(flavor = "multi_thread")]
    async fn a_step_of_a_claim_that_is_another_s_by_now_is_refused() {
        a_claim_stands_until_it_is_anothers(&SqliteGround::new()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_effect_that_is_given_back_waits_until_its_new_time() {
        effects_given_back_wait_and_ring(&SqliteGround::new()).await;
    }

    // rule: Q-1
    #[tokio::test(flavor = "multi_thread")]
    async fn effects_survive_a_restart_leased_or_not() {
        the_outbox_survives(&SqliteGround::new()).await;
    }

    // rule: Q-1
    #[tokio::test(flavor = "multi_thread")]
    async fn an_effect_that_is_due_when_it_is_committed_is_leased_by_that_commit() {
        what_is_due_at_once_is_leased_by_its_own_commit(&SqliteGround::new()).await;
    }

    // rule: Q-1
    #[tokio::test(flavor = "multi_thread")]
    async fn an_effect_that_was_leased_and_never_taken_is_not_lost() {
        a_lease_that_nobody_took_lapses_or_ends_with_the_process(&SqliteGround::new()).await;
    }

    // rule: Q-7
    #[tokio::test(flavor = "multi_thread")]
    async fn an_effect_that_waits_can_be_given_another_time_and_one_under_way_can_not() {
        what_waits_gets_another_time_and_what_is_leased_does_not(&SqliteGround::new()).await;
    }

    // rule: Q-6
    #[tokio::test(flavor = "multi_thread")]
    async fn a_body_reads_back_staged_adopted_and_after_a_restart() {
        bodies_read_back_wherever_they_lie(&SqliteGround::new()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_staged_body_is_dropped_with_the_last_that_holds_it() {
        let ground = SqliteGround::new();
        bodies_that_nobody_holds_are_dropped(&ground).await;
        assert!(ground.body_files().is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_body_has_one_owner_and_is_gone_once_removed() {
        let ground = SqliteGround::new();
        bodies_have_one_owner_and_are_removed_once_for_all(&ground).await;
        assert!(ground.body_files().is_empty());
    }
}

// --- on PostgreSQL -----------------------------------------------------------------------------

mod postgres {
    use super::*;
    use crate::support::postgres::PostgresGround;

    #[async_trait]
    impl Ground for PostgresGround {
        async fn open(&self) -> Arc<dyn Store> {
            PostgresGround::open(self).await
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_exchange_reads_back_as_it_was_written() {
        reads_back_what_was_written(&PostgresGround::new()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stale_version_conflicts_and_nothing_of_its_unit_is_written() {
        stale_versions_conflict(&PostgresGround::new()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_unit_is_written_whole_or_not_at_all() {
        all_of_a_unit_or_nothing(&PostgresGround::new()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_units_that_come_together_a_bad_one_fails_alone() {
        units_that_come_together_are_answered_each(&PostgresGround::new()).await;
    }

    // rule: XDR-50
    #[tokio::test(flavor = "multi_thread")]
    async fn keys_lead_to_exchanges_and_never_across_partners() {
        keys_lead_to_their_exchanges(&PostgresGround::new()).await;
    }

    // rule: XDR-50, DST-6
    #[tokio::test(flavor = "multi_thread")]
    async fn of_those_that_each_take_themselves_for_the_first_under_a_key_one_is_written() {
        what_was_decided_without_another_is_refused(&PostgresGround::new()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn lists_page_through_every_exchange_that_fits_the_filter() {
        lists_are_cut_and_filtered(&PostgresGround::new()).await;
    }

    // rule: Q-1
    #[tokio::test(flavor = "multi_thread")]
    async fn a_due_effect_is_claimed_once_and_not_before_its_time() {
        due_effects_are_claimed_once(&PostgresGround::new()).await;
    }

    // rule: Q-1
    #[tokio::test(flavor = "multi_thread")]
    async fn a_lapsed_lease_is_claimed_again_and_its_late_worker_changes_nothing() {
        lapsed_leases_are_claimed_again(&PostgresGround::new()).await;
    }

    // rule: Q-1
    #[tokio::test(flavor = "multi_thread")]
    async fn a_step_of_a_claim_that_is_another_s_by_now_is_refused() {
        a_claim_stands_until_it_is_anothers(&PostgresGround::new()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_effect_that_is_given_back_waits_until_its_new_time() {
        effects_given_back_wait_and_ring(&PostgresGround::new()).await;
    }

    // rule: Q-1
    #[tokio::test(flavor = "multi_thread")]
    async fn effects_survive_a_restart_leased_or_not() {
        the_outbox_survives(&PostgresGround::new()).await;
    }

    // rule: Q-1
    #[tokio::test(flavor = "multi_thread")]
    async fn an_effect_that_is_due_when_it_is_committed_is_leased_by_that_commit() {
        what_is_due_at_once_is_leased_by_its_own_commit(&PostgresGround::new()).await;
    }

    // rule: Q-1
    #[tokio::test(flavor = "multi_thread")]
    async fn an_effect_that_was_leased_and_never_taken_is_not_lost() {
        a_lease_that_nobody_took_lapses_or_ends_with_the_process(&PostgresGround::new()).await;
    }

    // rule: Q-7
    #[tokio::test(flavor = "multi_thread")]
    async fn an_effect_that_waits_can_be_given_another_time_and_one_under_way_can_not() {
        what_waits_gets_another_time_and_what_is_leased_does_not(&PostgresGround::new()).await;
    }

    // rule: Q-6
    #[tokio::test(flavor = "multi_thread")]
    async fn a_body_reads_back_staged_adopted_and_after_a_restart() {
        bodies_read_back_wherever_they_lie(&PostgresGround::new()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_staged_body_is_dropped_with_the_last_that_holds_it() {
        let ground = PostgresGround::new();
        bodies_that_nobody_holds_are_dropped(&ground).await;
        no_body_is_left(&ground).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_body_has_one_owner_and_is_gone_once_removed() {
        let ground = PostgresGround::new();
        bodies_have_one_owner_and_are_removed_once_for_all(&ground).await;
        no_body_is_left(&ground).await;
    }
    /// A body that was dropped just before the store was closed goes at the node's next start.
    async fn no_body_is_left(ground: &PostgresGround) {
        ground.open().await.close().await;
        let left = ground.server.sql("SELECT id FROM body").await;
        assert_eq!(left, Vec::<String>::new());
        let left = ground.server.sql("SELECT body FROM body_chunk").await;
        assert_eq!(left, Vec::<String>::new());
    }
}

fn record() -> AuditRecord {
    AuditRecord::new(time(0), AuditKind::Recipient, AuditOutcome::Success)
}

/// How many audit records there are; fails if the chain is broken.
async fn audit_records(store: &Arc<dyn Store>) -> u64 {
    match store.verify_audit_chain().await.unwrap() {
        ChainVerdict::Intact { records } => records,
        broken => panic!("{broken:?}"),
    }
}

fn is_damaged<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::DamagedBody { .. }))
}

async fn loaded(store: &Arc<dyn Store>, id: ExchangeId) -> VersionedExchange {
    store.load(id).await.unwrap().unwrap()
}

/// Waits for what must come soon: a ring that was missed fails the test instead of stopping it.
async fn within(ring: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(20), ring)
        .await
        .unwrap();
}
