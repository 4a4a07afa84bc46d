//! What the store on PostgreSQL asks of a connection: TLS and a certificate that names the server, a password that is in
//! no settings, and an end to whatever takes too long; and what it makes of a server that is out of something.

use std::time::Duration;

use xdbridge::{
    adapters::store::{ConnectError, PostgresOpenError, PostgresStore},
    flows::ports::{Exchanges, StoreError},
};

use crate::support::{
    postgres::{PostgresGround, PostgresServer},
    store::{exchange, insert, time},
    tls::Identity,
};

/// Longest wait for what must come: only a test that fails gets there.
const PATIENCE: Duration = Duration::from_secs(60);

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.unwrap()
}

/// A ground on a server with an address, where `ca` vouches for the server.
fn over_tcp(server: PostgresServer, ca: &Identity) -> PostgresGround {
    let mut ground = PostgresGround::on(server);
    let file = ground.config.key_files[0].with_file_name("database-ca.pem");
    std::fs::write(&file, ca.certificate_pem()).unwrap();
    ground.config.postgres.ca_file = Some(file);
    ground
}

async fn refusal(ground: &PostgresGround) -> String {
    match PostgresStore::open(&ground.config, ground.clock.clone(), "node-a").await {
        Err(PostgresOpenError::Connect(ConnectError::Refused { what })) => what,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the store must not open"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_speaks_tls_to_a_server_that_its_ca_vouches_for_by_name_and_to_no_other() {
    let (ca, stranger) = (Identity::ca("Database CA"), Identity::ca("Another CA"));
    let server = PostgresServer::start_over_tcp(|address| Some(ca.issue(address)));
    let ground = over_tcp(server, &ca);
    let store = ground.open().await;
    let written = exchange("edge", time(0));
    store.commit(insert(&written, vec![])).await.unwrap();
    store.load(written.id).await.unwrap().unwrap();
    let encrypted = "SELECT DISTINCT ssl, version >= 'TLSv1.2' FROM pg_stat_ssl \
         JOIN pg_stat_activity USING (pid) WHERE application_name = 'xdbridge'";
    assert_eq!(ground.server.sql(encrypted).await, ["t|t"]);
    store.close().await;

    let mut others = ground;
    let file = others.config.postgres.ca_file.clone().unwrap();
    std::fs::write(file, stranger.certificate_pem()).unwrap();
    let told = refusal(&others).await;
    assert!(told.contains("certificate verify failed"), "{told}");
    // Nor do the CAs of the public net vouch for it.
    others.config.postgres.ca_file = None;
    let told = refusal(&others).await;
    assert!(told.contains("certificate verify failed"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_certificate_names_another_or_that_has_none_is_not_talked_to() {
    let ca = Identity::ca("Database CA");
    let server = PostgresServer::start_over_tcp(|_| Some(ca.issue("db.elsewhere.example")));
    let told = refusal(&over_tcp(server, &ca)).await;
    assert!(told.contains("certificate verify failed"), "{told}");
    let server = PostgresServer::start_over_tcp(|_| None);
    let told = refusal(&over_tcp(server, &ca)).await;
    assert!(told.contains("TLS"), "{told}");
}

// --- time-outs ---------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_waits_for_somebody_elses_lock_fails_in_time_and_the_next_is_written() {
    let mut ground = PostgresGround::new();
    ground.config.postgres.lock_timeout = Duration::from_secs(1);
    let store = ground.open().await;
    let (holder, _driver) = ground.server.session().await;
    let locked = "BEGIN; LOCK TABLE exchange IN ACCESS EXCLUSIVE MODE";
    holder.batch_execute(locked).await.unwrap();
    let written = exchange("edge", time(0));
    let refused = within(store.commit(insert(&written, vec![]))).await;
    assert!(is_transient(&refused, "55P03"), "{refused:?}");
    let refused = within(store.load(written.id)).await;
    assert!(is_transient(&refused, "55P03"), "{refused:?}");
    holder.batch_execute("ROLLBACK").await.unwrap();
    store.commit(insert(&written, vec![])).await.unwrap();
    store.load(written.id).await.unwrap().unwrap();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_is_ended_by_the_server() {
    let mut ground = PostgresGround::new();
    ground.config.postgres.statement_timeout = Duration::from_secs(1);
    let store = ground.open().await;
    on_insert(&ground, "PERFORM pg_sleep(3600)").await;
    let written = exchange("edge", time(0));
    let refused = within(store.commit(insert(&written, vec![]))).await;
    assert!(is_transient(&refused, "57014"), "{refused:?}");
    ground.server.sql("DROP TRIGGER hinder ON exchange").await;
    store.commit(insert(&written, vec![])).await.unwrap();
    store.close().await;
}

// --- a server that is out of something ---------------------------------------------------------

// rule: Q-1
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_room_is_told_apart_and_what_comes_later_is_written() {
    let ground = PostgresGround::new();
    let store = ground.open().await;
    let written = exchange("edge", time(0));
    // Disk full; out of memory; too many connections: postgresql.org/docs/15/errcodes-appendix.html, class 53.
    for state in ["53100", "53200", "53300"] {
        let raise = format!("RAISE EXCEPTION 'no more' USING ERRCODE = '{state}'");
        on_insert(&ground, &raise).await;
        let refused = store.commit(insert(&written, vec![])).await;
        match state {
            "53100" => assert!(matches!(refused, Err(StoreError::NoSpace)), "{refused:?}"),
            _ => assert!(is_transient(&refused, state), "{refused:?}"),
        }
        ground.server.sql("DROP TRIGGER hinder ON exchange").await;
        assert!(store.load(written.id).await.unwrap().is_none());
    }
    store.commit(insert(&written, vec![])).await.unwrap();
    store.close().await;
}

/// Does `what` before an exchange is inserted.
async fn on_insert(ground: &PostgresGround, what: &str) {
    let trigger = format!(
        "CREATE OR REPLACE FUNCTION hinder() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN {what}; RETURN NEW; END $$; \
         CREATE TRIGGER hinder BEFORE INSERT ON exchange FOR EACH ROW EXECUTE FUNCTION hinder()"
    );
    ground.server.sql(&trigger).await;
}

/// Whether it failed with this SQLSTATE, in a way that may pass.
fn is_transient<T>(result: &Result<T, StoreError>, state: &str) -> bool {
    let Err(error @ StoreError::Failed(source)) = result else {
        return false;
    };
    error.is_transient() && source.to_string().contains(state)
}
