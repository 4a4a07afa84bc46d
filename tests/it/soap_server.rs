//! The XDR listener, as peers of any conduct meet it: over real sockets and real TLS.

use std::{
    fs, net::Ipv4Addr, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc, time::Duration,
};

use bytes::Bytes;
use openssl::ssl::SslVersion;
use tokio::sync::Notify;
use xdbridge::{
    adapters::soap_server::{SoapServerConfig, SoapServerError, TlsError},
    flows::ports::{BodyInterrupted, XdrAnswer},
    formats::audit::AuditKind,
};

use crate::support::{
    folder::TestFolder,
    soap_ground::{
        BUDGET_BYTES, Ground, as_chunk, bind_error, chunked_head, collect, every_octet,
        fingerprint, plain, post_head, whole, written_by,
    },
    tls::{Client, Identity, connect_plain},
};

// --- what reaches the flow ----------------------------------------------------------------------

// rule: SOAP-2, SOAP-9, NHIN-51
#[test]
fn a_body_of_declared_length_reaches_the_flow_octet_by_octet() {
    let ground = Ground::start();
    let body = every_octet(300_000);
    for newest in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let mut connection = ground.partner_speaking(newest);
        connection.send(post_head(body.len())).unwrap();
        connection.send(&body).unwrap();
        let answer = connection.answer().unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        assert_eq!(answer.body, b"300000 octets");

        let seen = ground.seen();
        assert_eq!(seen.partner, "elm");
        assert_eq!(seen.content_type, "Multipart/Related; boundary=\"b 1\"");
        assert_eq!(seen.body, Ok(body.clone()));
        assert_eq!(
            seen.peer.certificate,
            Some(fingerprint(&ground.partner)),
            "the peer's certificate comes with the request"
        );
        let issuers = vec![Bytes::from(ground.ca.certificate.to_der().unwrap())];
        assert_eq!(seen.peer.issuers_der, issuers);
        assert!(seen.peer.address.starts_with("127.0.0.1:"));
    }
}

// rule: SOAP-9
#[test]
fn a_chunked_body_reaches_the_flow_octet_by_octet() {
    let ground = Ground::start();
    let body = every_octet(700_001);
    let mut connection = ground.connect();
    connection.send(chunked_head()).unwrap();
    for chunk in body.chunks(9_973) {
        connection.send(as_chunk(chunk)).unwrap();
    }
    connection.send("0\r\n\r\n").unwrap();
    assert_eq!(connection.answer().unwrap().status, 200);
    assert_eq!(ground.seen().body, Ok(body));
    assert_eq!(ground.budget.in_flight(), 0, "all of it is free again");
}

// rule: SOAP-9
#[test]
fn a_sender_that_expects_100_is_told_to_go_on() {
    let ground = Ground::start();
    let mut connection = ground.connect();
    let head = post_head(4).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    connection.send(head).unwrap();
    assert!(connection.head().unwrap().starts_with("HTTP/1.1 100 "));
    connection.send("body").unwrap();
    assert_eq!(connection.answer().unwrap().status, 200);
    assert_eq!(ground.seen().body, Ok(b"body".to_vec()));
}

#[test]
fn one_connection_carries_several_requests() {
    let ground = Ground::start();
    let mut connection = ground.connect();
    for body in ["first", "second"] {
        connection.send(post_head(body.len()) + body).unwrap();
        assert_eq!(connection.answer().unwrap().status, 200);
        assert_eq!(ground.seen().body, Ok(body.as_bytes().to_vec()));
    }
}

#[cfg(feature = "demo")]
#[test]
fn a_common_http_client_is_served() {
    let ground = Ground::start();
    let answer = ground.runtime.block_on(async {
        let ca = reqwest::Certificate::from_pem(&ground.ca.certificate_pem()).unwrap();
        let partner = reqwest::Identity::from_pkcs8_pem(
            &ground.partner.certificate_pem(),
            &ground.partner.key_pem(),
        );
        let client = reqwest::Client::builder()
            .tls_backend_native()
            .tls_certs_only([ca])
            .identity(partner.unwrap())
            .no_proxy()
            .build()
            .unwrap();
        let url = format!("https://localhost:{}/xdr", ground.address.port());
        let answer = client.post(url).body("hello").send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    });
    assert_eq!(answer, (200, "5 octets".to_owned()));
}

// rule: SOAP-95
#[test]
fn what_the_flow_answers_goes_back_as_it_is() {
    let ground = Ground::with(
        |_| {},
        |_| {},
        |_, _| {
            Box::pin(async {
                XdrAnswer {
                    status: 503,
                    content_type: Some("application/soap+xml; charset=UTF-8".to_owned()),
                    body: Bytes::from_static(b"<busy/>"),
                    retry_after: Some(Duration::from_secs(7)),
                }
            })
        },
    );
    let answer = ground.post(b"x");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("7"));
    assert_eq!(
        answer.header("content-type"),
        Some("application/soap+xml; charset=UTF-8")
    );
    assert_eq!(answer.body, b"<busy/>");
}

#[test]
fn a_flow_that_decides_before_the_end_of_the_body_answers_at_once() {
    let ground = Ground::with(
        |_| {},
        |_| {},
        |_, _| Box::pin(async { plain(400, "enough") }),
    );
    for head in [post_head(5_000_000), chunked_head()] {
        let mut connection = ground.connect();
        connection.send(head + "5\r\nhello\r\n").unwrap();
        let answer = connection.answer().unwrap();
        assert_eq!((answer.status, answer.body), (400, b"enough".to_vec()));
        assert_eq!(connection.rest().unwrap(), b"", "and the connection ends");
    }
    assert_eq!(ground.budget.in_flight(), 0);
}

#[test]
fn a_flow_that_panics_fails_its_own_request_alone() {
    let ground = Ground::with(
        |_| {},
        |_| {},
        |request, _| {
            Box::pin(async move {
                let body = whole(request).await.unwrap();
                assert_ne!(body, b"panic", "as planned");
                plain(200, "fine")
            })
        },
    );
    assert_eq!(ground.post(b"panic").status, 500);
    assert_eq!(ground.post(b"calm").status, 200);
}

// --- who is served ------------------------------------------------------------------------------

// rule: NHIN-51, NHIN-61, SOAP-164
#[test]
fn a_client_without_a_certificate_of_our_cas_fails_in_the_handshake() {
    let ground = Ground::start();
    let foreign = Identity::ca("Foreign CA").issue("gateway.elm.example");
    for newest in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        for identity in [None, Some(&foreign)] {
            let client = Client {
                newest: Some(newest),
                ..ground.client(identity)
            };
            // With TLS 1.3 the alert comes after the client's side of the handshake is done.
            let refusal = match client.connect(ground.address) {
                Err(error) => error,
                Ok(mut connection) => connection.rest().unwrap_err().to_string(),
            };
            assert!(refusal.contains("alert"), "{newest:?}: {refusal}");
        }
    }
    assert!(ground.saw_nothing());
    assert_eq!(ground.post(b"x").status, 200, "others are served");
}

// rule: NHIN-60
#[test]
fn a_self_signed_certificate_is_accepted_where_it_is_configured() {
    let tool = Identity::self_signed("tool.example");
    let ground = Ground::with_client_cas(&[&tool]);
    let mut connection = ground.client(Some(&tool)).connect(ground.address).unwrap();
    connection.send(post_head(1) + "x").unwrap();
    // It came through the handshake; that it belongs to no partner is another matter.
    assert_eq!(connection.answer().unwrap().status, 403);
}

// rule: NHIN-11
#[test]
fn tls_1_1_is_not_spoken() {
    let ground = Ground::start();
    let client = Client {
        newest: Some(SslVersion::TLS1_1),
        ..ground.client(Some(&ground.partner))
    };
    let refusal = client.connect(ground.address).err().unwrap();
    assert!(refusal.contains("alert protocol version"), "{refusal}");
}

// rule: SOAP-95, XDR-66
#[test]
fn a_certificate_that_belongs_to_no_partner_gets_403_and_a_record() {
    let ground = Ground::start();
    let stranger = ground.ca.issue("gateway.nobody.example");
    for path in ["/xdr", "/elsewhere"] {
        let mut connection = ground
            .client(Some(&stranger))
            .connect(ground.address)
            .unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
        connection.send(head).unwrap();
        assert_eq!(connection.answer().unwrap().status, 403);
        assert_eq!(connection.rest().unwrap(), b"", "the connection is closed");

        let record = ground.audit.0.lock().unwrap().pop().unwrap();
        assert_eq!(record.kind, AuditKind::SecurityAlert);
        let expected = fingerprint(&stranger).to_string();
        assert_eq!(record.details["certificate"], expected);
        assert_eq!(record.details["subject"], "CN=gateway.nobody.example");
        assert!(record.details["peer"].starts_with("127.0.0.1:"));
    }
    assert!(ground.saw_nothing());
}

// rule: XDR-66
#[test]
fn a_partner_named_by_its_ca_is_known_only_under_that_ca() {
    let other_ca = Identity::ca("Other CA");
    let ground = Ground::with_client_cas(&[&other_ca]);
    let ash = ground.ca.issue("ehr.ash.example");
    let pretender = other_ca.issue("ehr.ash.example");
    for (identity, status) in [(&ash, 200), (&pretender, 403)] {
        let client = ground.client(Some(identity));
        let mut connection = client.connect(ground.address).unwrap();
        connection.send(post_head(1) + "x").unwrap();
        assert_eq!(connection.answer().unwrap().status, status);
    }
    assert_eq!(ground.seen().partner, "ash");
    assert!(ground.saw_nothing());
    assert_eq!(ground.audit.0.lock().unwrap().len(), 1);
}

// --- what is asked for --------------------------------------------------------------------------

// rule: SOAP-2, SOAP-95
#[test]
fn other_methods_and_paths_are_refused_and_the_connection_goes_on() {
    let ground = Ground::start();
    let mut connection = ground.connect();
    for (line, status) in [
        ("PUT /xdr", 405),
        ("DELETE /xdr", 405),
        ("OPTIONS /xdr", 405),
        ("QUERY /xdr", 405),
        ("GET /xdr", 404),
        ("GET /", 404),
        ("POST /xdr/", 404),
        ("POST /XDR", 404),
        ("GET /xdr/../xdr?wsdl", 404),
    ] {
        connection
            .send(format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n"))
            .unwrap();
        let answer = connection.answer().unwrap();
        assert_eq!(answer.status, status, "{line}");
        if status == 405 {
            assert_eq!(answer.header("allow"), Some("GET, POST"));
        }
    }
    assert!(ground.saw_nothing());
}

// rule: SOAP-2
#[test]
fn the_wsdl_names_the_address_that_was_asked() {
    let ground = Ground::start();
    let mut connection = ground.connect();
    connection
        .send("GET /xdr?WSDL HTTP/1.1\r\nHost: xdr.harbor.example:9443\r\n\r\n")
        .unwrap();
    let answer = connection.answer().unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/xml; charset=UTF-8")
    );
    let text = String::from_utf8(answer.body).unwrap();
    let tree = roxmltree::Document::parse(&text).unwrap();
    assert_eq!(
        tree.root_element().tag_name().namespace(),
        Some("http://schemas.xmlsoap.org/wsdl/")
    );
    let locations: Vec<&str> = tree
        .descendants()
        .filter_map(|node| node.attribute("location"))
        .collect();
    assert_eq!(locations, ["https://xdr.harbor.example:9443/xdr"; 2]);
}

// rule: SOAP-7
#[test]
fn a_content_encoding_gets_415_and_no_soap() {
    let ground = Ground::start();
    let mut connection = ground.connect();
    let head = post_head(4).replace("\r\n\r\n", "\r\nContent-Encoding: gzip\r\n\r\n");
    connection.send(head).unwrap();
    let answer = connection.answer().unwrap();
    assert_eq!(answer.status, 415);
    assert_eq!(answer.header("accept-encoding"), Some("identity"));
    assert!(ground.saw_nothing());
}

// --- limits -------------------------------------------------------------------------------------

// rule: LIM-1, SOAP-160
#[test]
fn a_declared_length_over_the_limit_gets_413_before_anything_is_read() {
    let ground = Ground::with(|_| {}, |limits| limits.max_message_bytes = 1_000, collect);
    let mut connection = ground.connect();
    connection.send(post_head(1_001)).unwrap();
    assert_eq!(connection.answer().unwrap().status, 413);
    assert!(ground.saw_nothing());
    assert_eq!(
        ground.post(&every_octet(1_000)).status,
        200,
        "the limit itself fits"
    );
}

// rule: LIM-1, SOAP-160
#[test]
fn a_chunked_body_over_the_limit_gets_413_on_the_way() {
    let ground = Ground::with(|_| {}, |limits| limits.max_message_bytes = 1_000, collect);
    let mut connection = ground.connect();
    connection.send(chunked_head()).unwrap();
    connection.send(as_chunk(&every_octet(600))).unwrap();
    connection.send(as_chunk(&every_octet(600))).unwrap();
    assert_eq!(connection.answer().unwrap().status, 413);
    let too_large = BodyInterrupted::TooLarge { max_bytes: 1_000 };
    assert_eq!(ground.seen().body, Err(too_large));
    assert_eq!(connection.rest().unwrap(), b"");
}

// rule: SOAP-91, LIM-17, SOAP-95
#[test]
fn over_the_byte_budget_a_sender_is_asked_to_come_again() {
    let ground = Ground::start();
    let taken = ground.budget.try_reserve(BUDGET_BYTES).unwrap();
    let mut connection = ground.connect();
    connection.send(post_head(4)).unwrap();
    let answer = connection.answer().unwrap();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("10"));
    assert!(ground.saw_nothing());
    drop(taken);
    assert_eq!(ground.post(b"body").status, 200);
}

// rule: SOAP-91, LIM-18, SOAP-95
#[test]
fn without_room_in_the_store_a_sender_is_asked_to_come_again() {
    const GIB: u64 = 1024 * 1024 * 1024;
    let ground = Ground::start();
    for (free, status) in [
        (GIB - 1, 503),
        (GIB, 503),
        (GIB + GIB / 10, 200),
        (GIB, 200),
    ] {
        ground.runtime.block_on(ground.room.leave(free));
        let mut connection = ground.connect();
        connection.send(post_head(4)).unwrap();
        if status == 200 {
            connection.send("body").unwrap();
        }
        let answer = connection.answer().unwrap();
        assert_eq!(answer.status, status, "{free}");
        if status == 503 {
            assert_eq!(answer.header("retry-after"), Some("10"));
            assert!(ground.saw_nothing());
            assert_eq!(ground.budget.in_flight(), 0);
        }
    }
}

// rule: SOAP-91, LIM-17
#[test]
fn a_chunked_body_that_outgrows_the_budget_gets_503_and_frees_what_it_took() {
    let ground = Ground::start();
    let _taken = ground.budget.try_reserve(BUDGET_BYTES - 600_000).unwrap();
    let before = ground.budget.in_flight();
    let mut connection = ground.connect();
    connection.send(chunked_head()).unwrap();
    // The answer may come, and the connection end, before all of it is sent.
    for _ in 0..10 {
        if connection.send(as_chunk(&every_octet(100_000))).is_err() {
            break;
        }
    }
    let answer = connection.answer().unwrap();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("10"));
    assert_eq!(ground.seen().body, Err(BodyInterrupted::NoRoom));
    assert_eq!(ground.budget.in_flight(), before);
}

// rule: LIM-8, SOAP-95
#[test]
fn a_head_over_the_limit_gets_431() {
    let ground = Ground::start();
    for (field_bytes, status) in [(60 * 1024, 200), (65 * 1024, 431), (100 * 1024, 431)] {
        let mut connection = ground.connect();
        let field = format!("\r\nX-Long: {}\r\n\r\n", "x".repeat(field_bytes));
        connection
            .send(post_head(1).replace("\r\n\r\n", &field) + "x")
            .unwrap();
        assert_eq!(connection.answer().unwrap().status, status, "{field_bytes}");
    }
}

// rule: LIM-8
#[test]
fn a_header_without_end_is_not_read_to_its_end() {
    const GIB: usize = 1024 * 1024 * 1024;
    /// More than the buffers of both sockets hold.
    const FAR_TOO_MUCH: usize = 64 * 1024 * 1024;
    let ground = Ground::start();
    let mut connection = ground.connect();
    connection
        .send("POST /xdr HTTP/1.1\r\nHost: x\r\nX-Long: ")
        .unwrap();
    let block = "x".repeat(16 * 1024);
    let mut sent = 0;
    while sent < GIB && connection.send(&block).is_ok() {
        sent += block.len();
    }
    assert!(
        sent < FAR_TOO_MUCH,
        "{sent} octets of one header were taken"
    );
    assert_eq!(ground.post(b"x").status, 200);
}

// --- conduct of connections ---------------------------------------------------------------------

#[test]
fn a_body_that_stops_coming_gets_408_and_never_passes_for_a_whole_one() {
    let ground = Ground::with(
        |config| config.chunk_timeout = Duration::from_millis(100),
        |_| {},
        collect,
    );
    for start in [post_head(10) + "half", chunked_head() + "4\r\nhalf\r\n"] {
        let mut connection = ground.connect();
        connection.send(start).unwrap();
        assert_eq!(connection.answer().unwrap().status, 408);
        assert_eq!(ground.seen().body, Err(BodyInterrupted::TooSlow));
        assert_eq!(connection.rest().unwrap(), b"", "the connection is closed");
    }
}

#[test]
fn a_body_below_the_minimum_rate_gets_408_though_no_single_wait_is_too_long() {
    let ground = Ground::with(
        |config| {
            config.body_grace = Duration::ZERO;
            // No sender is that fast.
            config.min_bytes_per_second = u64::MAX;
        },
        |_| {},
        collect,
    );
    let mut connection = ground.connect();
    connection.send(post_head(1_000) + "some").unwrap();
    assert_eq!(connection.answer().unwrap().status, 408);
    assert_eq!(ground.seen().body, Err(BodyInterrupted::TooSlow));
}

#[test]
fn a_body_cut_by_a_broken_connection_never_passes_for_a_whole_one() {
    let ground = Ground::start();
    for start in [post_head(10) + "half", chunked_head() + "4\r\nhalf\r\n"] {
        let mut connection = ground.connect();
        connection.send(start).unwrap();
        connection.break_off();
        assert_eq!(ground.seen().body, Err(BodyInterrupted::Broken));
    }
}

#[test]
fn a_broken_chunk_size_never_passes_for_the_end() {
    let ground = Ground::start();
    let mut connection = ground.connect();
    connection
        .send(chunked_head() + "4\r\nhalf\r\nnot-a-size\r\n")
        .unwrap();
    assert_eq!(ground.seen().body, Err(BodyInterrupted::Broken));
    assert_eq!(connection.answer().unwrap().status, 400);
}

#[test]
fn two_lengths_that_disagree_are_no_request() {
    let ground = Ground::start();
    for fields in [
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, identity",
        "Content-Length: +4",
    ] {
        let mut connection = ground.connect();
        connection
            .send(format!(
                "POST /xdr HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\nbody"
            ))
            .unwrap();
        assert_eq!(connection.answer().unwrap().status, 400, "{fields}");
    }
    assert!(ground.saw_nothing());
}

#[test]
fn a_head_that_does_not_end_in_time_gets_408() {
    let ground = Ground::with(
        |config| config.head_timeout = Duration::from_millis(100),
        |_| {},
        collect,
    );
    let mut connection = ground.connect();
    connection
        .send("POST /xdr HTTP/1.1\r\nHost: x\r\n")
        .unwrap();
    assert_eq!(connection.answer().unwrap().status, 408);
    assert_eq!(connection.rest().unwrap(), b"");
}

#[test]
fn a_later_head_that_does_not_end_in_time_ends_the_connection() {
    let ground = Ground::with(
        |config| {
            config.keep_alive = Duration::from_secs(1);
            config.head_timeout = Duration::from_secs(1);
        },
        |_| {},
        collect,
    );
    let mut connection = ground.connect();
    connection.send(post_head(1) + "x").unwrap();
    assert_eq!(connection.answer().unwrap().status, 200);
    connection
        .send("POST /xdr HTTP/1.1\r\nHost: x\r\n")
        .unwrap();
    // The end may come with or without the parting words of TLS, but before our own patience ends.
    if let Err(error) = connection.rest() {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
    }
}

#[test]
fn connections_that_say_nothing_keep_nobody_out() {
    let ground = Ground::with(|config| config.workers = 1, |_| {}, collect);
    let _without_handshake: Vec<_> = (0..60).map(|_| connect_plain(ground.address)).collect();
    let _without_request: Vec<_> = (0..5).map(|_| ground.connect()).collect();
    let _without_body: Vec<_> = (0..5)
        .map(|_| {
            let mut connection = ground.connect();
            connection.send(post_head(10)).unwrap();
            connection
        })
        .collect();
    assert_eq!(ground.post(b"x").status, 200);
}

// --- start and stop -----------------------------------------------------------------------------

#[test]
fn a_stop_finishes_what_runs_and_closes_what_idles() {
    let release = Arc::new(Notify::new());
    let entered = Arc::new(Notify::new());
    let (until, announce) = (Arc::clone(&release), Arc::clone(&entered));
    let mut ground = Ground::with(
        |_| {},
        |_| {},
        move |request, _| {
            let (until, announce) = (Arc::clone(&until), Arc::clone(&announce));
            Box::pin(async move {
                whole(request).await.unwrap();
                announce.notify_one();
                until.notified().await;
                plain(200, "finished")
            })
        },
    );
    let mut idle = ground.connect();
    let mut running = ground.connect();
    running.send(post_head(1) + "x").unwrap();
    ground.runtime.block_on(entered.notified());

    let drain = ground.server.take().unwrap().drain();
    let drained = ground.runtime.spawn(drain);
    assert_eq!(
        idle.rest().unwrap(),
        b"",
        "an idle connection is closed at once"
    );
    assert!(!drained.is_finished(), "the running request holds the stop");
    release.notify_one();
    let answer = running.answer().unwrap();
    assert_eq!((answer.status, answer.body), (200, b"finished".to_vec()));
    ground.runtime.block_on(drained).unwrap().unwrap();
    assert!(std::net::TcpStream::connect(ground.address).is_err());
}

#[test]
fn a_request_that_never_ends_is_dropped_after_the_drain_time() {
    let entered = Arc::new(Notify::new());
    let announce = Arc::clone(&entered);
    let mut ground = Ground::with(
        |config| config.drain_timeout = Duration::from_secs(1),
        |_| {},
        move |request, _| {
            let announce = Arc::clone(&announce);
            Box::pin(async move {
                whole(request).await.unwrap();
                announce.notify_one();
                std::future::pending().await
            })
        },
    );
    let mut running = ground.connect();
    running.send(post_head(1) + "x").unwrap();
    ground.runtime.block_on(entered.notified());
    let drain = ground.server.take().unwrap().drain();
    ground.runtime.block_on(drain).unwrap();
    assert!(running.answer().is_err());
}

// rule: KEY-1
#[test]
fn a_key_that_others_may_read_is_refused_at_the_start() {
    let folder = TestFolder::new();
    let config = written_by(&Identity::ca("Test CA"), folder.path());
    fs::set_permissions(&config.key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = bind_error(&config);
    assert!(
        matches!(&error, SoapServerError::Tls(TlsError::File(_))),
        "{error}"
    );
    assert!(error.to_string().contains("has mode 0644"));
}

#[test]
fn a_start_that_fails_names_the_setting() {
    let folder = TestFolder::new();
    let good = written_by(&Identity::ca("Test CA"), folder.path());
    let garbage = folder.path().join("garbage.pem");
    fs::write(&garbage, "nothing").unwrap();
    fs::set_permissions(&garbage, fs::Permissions::from_mode(0o600)).unwrap();
    let (_, other_key) = Identity::ca("Other").write(folder.path(), "other");
    let missing = PathBuf::from("/nonexistent/file.pem");
    let with = |change: &dyn Fn(&mut SoapServerConfig)| {
        let mut config = good.clone();
        change(&mut config);
        bind_error(&config).to_string()
    };
    for path in [&missing, &garbage] {
        assert!(with(&|c| c.certificate = path.clone()).starts_with("soap.server.certificate: "));
        assert!(with(&|c| c.key = path.clone()).starts_with("soap.server.key: "));
    }
    assert!(with(&|c| c.key = other_key.clone()).contains("is not the key of the certificate"));
    for file in [&missing, &garbage] {
        let error = with(&|c| c.client_cas = vec![file.clone()]);
        assert!(error.starts_with("soap.server.client_cas: "), "{error}");
    }
    assert!(with(&|c| c.client_cas.clear()).contains("client_cas names no certificate"));
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap();
    assert!(with(&|c| c.bind = address).starts_with("soap.server.bind: "));
}
