//! What statements cost in a database of a million exchanges: what they cost in one of a thousand.

use std::path::PathBuf;

use rusqlite::{Connection, StatementStatus, types::Value};

use super::{audit, body, connection::migrate, exchange, lookup_key, outbox};

/// Finished exchanges in the large database, for each open one ten. The long form sets `XDBRIDGE_TEST_FINISHED` to
/// 1000000.
const FINISHED: u32 = 200_000;
const FINISHED_VARIABLE: &str = "XDBRIDGE_TEST_FINISHED";
const FINISHED_IN_SMALL: u32 = 1_000;
/// Steps of SQLite's machine by which a statement may differ from one database to the other: what a row's place in its
/// page decides.
const MOST_MORE_STEPS: i32 = 60;
const PAGE: i64 = 20;
/// The exchange whose body is gone, and so it may go.
const WITHOUT_BODY: u32 = 2;

/// A database in a file: a million exchanges do not belong in memory.
struct Filled {
    database: Connection,
    folder: PathBuf,
    finished: u32,
}

impl Drop for Filled {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The id of the `n`-th exchange, and of its body.
fn id(n: u32) -> Value {
    Value::Blob(format!("{n:016}").into_bytes())
}

/// The keyed hash of a key of the `n`-th exchange.
fn hash(n: u32) -> Value {
    Value::Blob(format!("{n:032}").into_bytes())
}

impl Filled {
    /// Open exchanges are the newest, as in life; a partner has five of them, the oldest.
    fn with(finished: u32) -> Self {
        let folder = std::env::temp_dir().join(format!("xdbridge-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut database = Connection::open(folder.join("volume.db")).unwrap();
        // Nothing of this is kept: only the plans count.
        let setup =
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -200000;";
        database.execute_batch(setup).unwrap();
        assert!(migrate(&mut database).unwrap());
        let open = finished / 10;
        let all = finished + open;
        let numbers = format!(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {all})"
        );
        let fill = format!(
            "BEGIN;
             INSERT INTO exchange {numbers} SELECT CAST(printf('%016d', n) AS BLOB), 1,
               CASE WHEN n <= 5 OR n > {all} - 5 THEN 'rare' WHEN n % 2 = 0 THEN 'edge' ELSE 'other' END,
               n, n <= {finished}, CASE WHEN n <= {finished} THEN n END, x'00' FROM numbers;
             INSERT INTO lookup_key {numbers} SELECT CAST(printf('%032d', n) AS BLOB),
               CAST(printf('%016d', n) AS BLOB), CAST(printf('%032d', n) AS BLOB) FROM numbers;
             INSERT INTO body {numbers} SELECT CAST(printf('%016d', n) AS BLOB),
               CAST(printf('%016d', n) AS BLOB), 1, x'00' FROM numbers WHERE n <> {WITHOUT_BODY};
             INSERT INTO audit {numbers} SELECT 'node', n, n, 'x', 0, CAST(printf('%016d', n) AS BLOB), x'00', x'00'
               FROM numbers;
             INSERT INTO outbox (exchange, effect, state, next_at, attempts, owner)
               SELECT id, 'x', accepted_at % 10 = 0, 1000000 + accepted_at, 1,
               CASE WHEN accepted_at % 10 = 0 THEN 'node' END FROM exchange WHERE is_final = 0;
             COMMIT; ANALYZE; PRAGMA journal_mode = MEMORY;"
        );
        database.execute_batch(&fill).unwrap();
        Self {
            database,
            folder,
            finished,
        }
    }

    /// The steps that a statement takes. It is undone.
    fn steps(&self, statement: &str, values: &[Value]) -> i32 {
        self.database.execute_batch("SAVEPOINT one").unwrap();
        let mut prepared = self.database.prepare(statement).unwrap();
        let mut rows = prepared
            .query(rusqlite::params_from_iter(values.iter()))
            .unwrap();
        while rows.next().unwrap().is_some() {}
        drop(rows);
        let status = |what| prepared.get_status(what);
        assert_eq!(status(StatementStatus::FullscanStep), 0, "{statement}");
        assert_eq!(status(StatementStatus::AutoIndex), 0, "{statement}");
        let steps = status(StatementStatus::VmStep);
        drop(prepared);
        let undo = "ROLLBACK TO one; RELEASE one";
        self.database.execute_batch(undo).unwrap();
        steps
    }

    /// Every statement of a flow, of the operators' lists and of the sweep, about an exchange in the middle.
    fn all(&self) -> Vec<(&'static str, i32)> {
        let last = self.finished + self.finished / 10;
        let middle = self.finished / 2;
        let (open, finished) = (id(last - 7), id(middle));
        let text = |text: &str| Value::Text(text.to_owned());
        let end = || Value::Integer(i64::from(last) + 1);
        let none = || Value::Blob(Vec::new());
        let page = || Value::Integer(PAGE);
        let number = |n: i64| Value::Integer(n);
        // Some that are due: the first of those that wait, and the first whose lease lapses.
        let due = |count: i64| number(1_000_000 + i64::from(self.finished) + count);
        let partner = |name: &str| text(name);
        let mut cases: Vec<(&'static str, Vec<Value>)> = vec![
            (exchange::LOAD, vec![finished.clone()]),
            (
                exchange::UPDATE,
                vec![
                    open.clone(),
                    number(2),
                    number(1),
                    number(9),
                    Value::Blob(vec![0]),
                    number(1),
                ],
            ),
            (exchange::DELETE, vec![id(WITHOUT_BODY)]),
            (exchange::EXPIRED, vec![number(200), number(50)]),
            (lookup_key::FIND, vec![hash(middle)]),
            (lookup_key::FIND_SOME, vec![hash(middle)]),
            (lookup_key::FIND_ANY, vec![hash(middle)]),
            (lookup_key::CARRIERS, vec![hash(middle)]),
            (outbox::LAPSE, vec![due(20)]),
            (outbox::CLAIM, vec![due(20), text("node"), end(), number(8)]),
            (outbox::FIRST_WAITING, vec![]),
            (outbox::COMPLETE, vec![number(10), text("node"), number(1)]),
            (
                outbox::GIVE_BACK,
                vec![number(10), text("node"), number(1), end()],
            ),
            (outbox::HELD, vec![number(10), text("node"), number(1)]),
            (outbox::RESCHEDULE, vec![number(11), open.clone(), end()]),
            (outbox::OF_EXCHANGE, vec![open.clone()]),
            (body::CONTENT, vec![finished.clone()]),
            (body::EXISTS, vec![finished.clone()]),
            (body::DELETE, vec![finished.clone()]),
            (body::OF_EXCHANGE, vec![finished.clone()]),
            (audit::OF_EXCHANGE, vec![finished.clone()]),
            (
                audit::CHAIN,
                vec![text("node"), number(i64::from(middle)), page()],
            ),
            (audit::LAST, vec![text("node")]),
            (audit::LOAD_ENDS, vec![text("node")]),
        ];
        for statement in [exchange::LIST, exchange::LIST_OPEN, exchange::LIST_FINAL] {
            cases.push((statement, vec![end(), none(), page()]));
        }
        for statement in [
            exchange::LIST_OF_PARTNER,
            exchange::LIST_OPEN_OF_PARTNER,
            exchange::LIST_FINAL_OF_PARTNER,
        ] {
            for name in ["edge", "rare", "nobody"] {
                cases.push((statement, vec![end(), none(), page(), partner(name)]));
            }
        }
        let steps = |(statement, values): (&'static str, Vec<Value>)| {
            (statement, self.steps(statement, &values))
        };
        cases.into_iter().map(steps).collect()
    }
}

#[test]
fn a_statement_takes_no_more_steps_among_very_many_exchanges() {
    let finished =
        std::env::var(FINISHED_VARIABLE).map_or(FINISHED, |count| count.parse().unwrap());
    let small = Filled::with(FINISHED_IN_SMALL).all();
    let large = Filled::with(finished);
    for ((statement, few), (_, many)) in small.into_iter().zip(large.all()) {
        assert!(few > 0, "{statement}");
        assert!(
            many <= few + MOST_MORE_STEPS,
            "{statement}\n{few} steps, then {many}"
        );
    }
    // The test can fail: without an index every row is a step.
    let scan = "SELECT count(*) FROM exchange WHERE version = 7";
    let mut scan = large.database.prepare(scan).unwrap();
    let found: u32 = scan.query_row([], |row| row.get(0)).unwrap();
    let steps = scan.get_status(StatementStatus::FullscanStep);
    assert!(
        found == 0 && steps >= i32::try_from(finished).unwrap(),
        "{steps}"
    );
}
